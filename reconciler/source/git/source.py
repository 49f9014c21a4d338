"""A git repository as the source of desired states: a worker fetches into a mirror, another reads manifests from it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random

from reconciler.clock import Clock
from reconciler.config import GitSourceConfig, KernelsConfig, PolicyConfig
from reconciler.erofs.recipe import ErofsRecipe
from reconciler.errors import (
    ManifestErrors,
    ReconcilerError,
    RevisionRefused,
    SourceError,
    source_error_kind,
)
from reconciler.git_url import local_path, redacted_url
from reconciler.model.desired import ANY, DesiredState, Fetched, Lineage
from reconciler.model.names import Revision
from reconciler.model.source_state import CommitSummary
from reconciler.model.status import SourceStatus
from reconciler.source.git import commit_log, local_access
from reconciler.source.git.clients import FetchChild, TreeExporter
from reconciler.source.git.error_kinds import failure
from reconciler.source.git.libgit2_limits import MIB, bound_library
from reconciler.source.git.polling import LocalWatch, delay_after, pause_before_reading_again
from reconciler.source.git.protocol import VerifyRequest, Want, WorkerAnswer, WorkerRequest
from reconciler.source.manifests.transfer import Settings
from reconciler.source.manifests.worker_client import START_SECONDS, ManifestReader, TooCostly
from reconciler.spans import UNTRACED, Tracer

TARGET = "refs/reconciler/target"
PREVIEW = "refs/reconciler/preview"
ATTEMPTS = 2
"""Attempts in one fetch, for a connection that broke. Longer faults are for the engine's backoff."""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.05, 0.2
MOST_REF = 200
WORKER_STEPS = 2
"""Tasks of the fetch worker in one fetch, each within source.fetch_timeout: fetch, then verify."""
READS = 2
"""Reads of a revision in one fetch: a second one if the mirror had to be cloned again."""
HISTORY_SECONDS = 5.0
"""Time limit for reading commits from the mirror for the page."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A refused revision. While it stays the newest, it is refused again without being read again."""

    revision: str
    lineage: Lineage
    error: ManifestErrors | RevisionRefused
    tries: int = 1
    until: float | None = None
    """Boot-clock time after which it is read again all the same: a slow host may have caused a timeout."""

    def holds(self, revision: Revision, lineage: Lineage, boot: float) -> bool:
        """Whether the refusal still stands for this revision and lineage at boot-clock time `boot`."""
        if (self.revision, self.lineage) != (revision, lineage):
            return False
        return self.until is None or boot < self.until

    def again(self) -> ManifestErrors | RevisionRefused:
        """The refusal as a new exception: one that was raised keeps its traceback, and with it memory."""
        error = self.error
        if isinstance(error, ManifestErrors):
            return ManifestErrors(list(error.problems), revision=error.revision, more=error.more)
        return RevisionRefused(
            str(error), kind=source_error_kind(error.kind), revision=error.revision, hint=error.hint
        )


class GitSource:
    """The engine's interface `Source` for one git repository. `close` it when done."""

    def __init__(
        self,
        config: GitSourceConfig,
        policy: PolicyConfig,
        kernels: KernelsConfig,
        git_dir: Path,
        clock: Clock,
        tracer: Tracer = UNTRACED,
    ) -> None:
        bound_library()
        self._config = config
        self._clock = clock
        self._tracer = tracer
        local = local_path(config.url)
        self._local = None if local is None else local.absolute()
        self._path = git_dir.absolute() / config.name
        settings = Settings(
            mirror=str(self._path),
            folder=config.path,
            files=config.max_files,
            file_bytes=config.max_file_kib * 1024,
            policy=policy,
            kernels=kernels,
        )
        self._reader = ManifestReader(settings, config.read_timeout)
        self._exporter = TreeExporter(self._path)
        self._child = FetchChild(config.max_repository_mib, config.fetch_timeout)
        self._lock = asyncio.Lock()
        self._given: Revision | None = None
        self._rejected: Rejected | None = None
        self._status = SourceStatus(config.name, redacted_url(config.url), None, 0)
        self._watch: LocalWatch | None = None

    async def open(self) -> None:
        """Have a child stand ready for exports. Raises BuildUnavailable."""
        await self._exporter.ready()

    @property
    def mirror(self) -> Path:
        """The bare mirror below the state directory."""
        return self._path

    @property
    def parsed_files(self) -> int:
        """Number of manifest files parsed since the start."""
        return self._reader.parsed_files

    @property
    def remembered_entries(self) -> int:
        """Number of cached folder entries; the cache makes a push cost only what it changed."""
        return self._reader.entries

    @property
    def child_pid(self) -> int | None:
        """Of the fetch worker; None before its start."""
        return self._child.pid

    @property
    def reader_pid(self) -> int | None:
        """Of the manifest reader; None before its start."""
        return self._reader.pid

    def status(self) -> SourceStatus:
        """The result of the newest fetch."""
        return self._status

    def next_delay(self, failures: int) -> float:
        """Seconds until the next fetch after so many failures in a row; random jitter is included."""
        return delay_after(
            failures,
            self._config.poll_interval,
            local=self._local is not None,
            draw=random.random(),  # noqa: S311 - spreads load, hides nothing
        )

    def longest_look(self) -> float:
        """Seconds after which a fetch has ended in any case: the sum of all its timeouts."""
        reads = READS * (START_SECONDS + self._config.read_timeout)
        return WORKER_STEPS * self._config.fetch_timeout + reads

    async def fetch(self, lineage: Lineage = ANY) -> Fetched:
        """Fetch now, and read the revision if it is new.

        `lineage` names the commits that it must descend from. Raises SourceError, RevisionRefused or
        ManifestErrors; what was read before stays in force.
        """
        async with self._lock:
            try:
                return await self._fetch(lineage)
            except RevisionRefused:
                raise  # the source itself works: only this revision is refused
            except SourceError as error:
                failures = self._status.failures + 1
                self._status = replace(
                    self._status, failures=failures, error=str(error), error_kind=error.kind
                )
                raise
            finally:
                # The repository may have been replaced by another folder meanwhile.
                if self._watch is not None:
                    self._watch.refresh()

    async def _fetch(self, lineage: Lineage) -> Fetched:
        began = self._clock.now().boot
        answer = await self._ask(self._request(*self._wanted(), TARGET))
        revision = Revision(answer.revision)
        # Nothing new: the manifests need not be read.
        if revision == self._given:
            self._succeeded()
            return Fetched(None, changed=False, revision=revision)
        rejected = self._rejected
        if rejected is not None and rejected.holds(revision, lineage, began):
            self._succeeded()
            raise rejected.again()
        self._tracer.span(revision, "fetch", self._clock.now().boot - began)
        try:
            with self._traced(revision, "verify"):
                await self._verify(revision, lineage)
            with self._traced(revision, "load"):
                state = await self._read(revision)
        except (ManifestErrors, RevisionRefused) as error:
            self._reject(revision, lineage, error)
            self._succeeded()
            raise
        self._given, self._rejected = revision, None
        self._succeeded()
        return Fetched(state, changed=True, revision=revision)

    def _reject(
        self, revision: Revision, lineage: Lineage, error: ManifestErrors | RevisionRefused
    ) -> None:
        former, tries, until = self._rejected, 1, None
        # A slow or overloaded host may be the reason, so this refusal is not final.
        if error.kind in ("limit", "timeout"):
            if former is not None and former.revision == revision:
                tries = former.tries + 1
            until = self._clock.now().boot + pause_before_reading_again(tries)
        self._rejected = Rejected(revision, lineage, error, tries, until)

    async def _verify(self, revision: Revision, lineage: Lineage) -> None:
        """Have the worker verify a fetched revision. Raises RevisionRefused.

        A commit pinned by the config needs no ancestry: only the administrator can change it.
        """
        config = self._config
        scrutiny = VerifyRequest(
            mirror=str(self._path),
            revision=revision,
            followed=list(lineage.revisions),
            rewritten=lineage.rewritten or "",
            must_continue=not (config.allow_rewrites or config.commit),
            verify=config.verify,
            allowed_signers=absolute(config.allowed_signers),
            keyring=absolute(config.keyring),
            deadline=config.fetch_timeout,
        )
        try:
            await self._child.ask(scrutiny)
        except SourceError as error:
            if error.kind not in ("ancestry", "verify"):
                raise
            raise RevisionRefused(
                str(error), kind=source_error_kind(error.kind), revision=revision, hint=error.hint
            ) from None

    async def load(self, revision: Revision) -> DesiredState:
        """Read a revision from the mirror without fetching, and treat it as the current one.

        Raises SourceError or ManifestErrors.
        """
        async with self._lock:
            state = await self._reader.read(revision)
            self._given = revision
            return state

    async def preview(self, ref: str) -> DesiredState:
        """Fetch and read a branch, tag or commit for `plan --ref`, without following it.

        Raises SourceError or ManifestErrors.
        """
        if not ref or len(ref) > MOST_REF or not ref.isprintable():
            raise failure("missing", "not the name of a branch, tag or commit")
        async with self._lock:
            answer = await self._ask(self._request("any", ref, PREVIEW))
            return await self._read(Revision(answer.revision))

    async def commits(self, tips: Sequence[str], most: int) -> tuple[CommitSummary, ...]:
        """At most `most` of the newest ancestors of these commits, from the mirror. Raises SourceError."""
        try:
            async with asyncio.timeout(HISTORY_SECONDS):
                return await asyncio.to_thread(commit_log.newest, self._path, tuple(tips), most)
        except TimeoutError:
            raise failure("timeout", f"the history was not read in {HISTORY_SECONDS:g} s") from None

    async def export(self, content: str, folder: Path) -> int:
        """As `ContentStore.export`, of a tree by its id."""
        return await self._exporter.export(content, folder)

    async def export_image(self, content: str, image: Path, recipe: ErofsRecipe) -> int:
        """As `ContentStore.export_image`, of a tree by its id."""
        return await self._exporter.export_image(content, image, recipe)

    def watch(self, callback: Callable[[], None]) -> None:
        """Call back on the running loop when refs of a local repository change; some changes may be missed."""
        if self._local is not None:
            self._watch = LocalWatch(self._local, callback)

    async def close(self) -> None:
        """Stop watching, and end both child processes."""
        if self._watch is not None:
            await asyncio.to_thread(self._watch.close)
            self._watch = None
        await self._exporter.close()
        await self._child.close()
        await self._reader.close()

    def _wanted(self) -> tuple[Want, str]:
        config = self._config
        if config.commit:
            return "commit", config.commit
        if config.tag:
            return "tag", config.tag
        return ("branch", config.branch) if config.branch else ("head", "")

    def _request(self, want: Want, name: str, ref: str) -> WorkerRequest:
        return WorkerRequest(
            mirror=str(self._path),
            url=str(self._local) if self._local is not None else self._config.url,
            want=want,
            name=name,
            ref=ref,
            deadline=self._config.fetch_timeout,
            repository_bytes=self._config.max_repository_mib * MIB,
            ssh_key=absolute(self._config.ssh_key),
            known_hosts=absolute(self._config.known_hosts),
            user=self._config.user,
            token_file=absolute(self._config.token_file),
        )

    async def _ask(self, request: WorkerRequest) -> WorkerAnswer:
        """Send a task to the worker; retry once, within the same deadline, if a connection broke.

        Raises SourceError.
        """
        if self._local is not None:
            fault = await asyncio.to_thread(local_access.unreachable, self._local)
            if fault is not None:
                raise fault
        retrying = AsyncRetrying(
            stop=stop_after_attempt(ATTEMPTS if self._local is None else 1),
            wait=wait_random(SHORTEST_PAUSE, LONGEST_PAUSE),
            retry=retry_if_exception(_is_transient),
            reraise=True,
        )
        try:
            async with asyncio.timeout(request.deadline):
                return await retrying(self._child.ask, request)
        except TimeoutError:
            raise failure("timeout", f"no answer within {request.deadline:g} s") from None

    async def _read(self, revision: Revision) -> DesiredState:
        """Read a fetched revision; clone once more if the mirror proves corrupt.

        Raises ManifestErrors, SourceError, or RevisionRefused if reading exceeds a limit.
        """
        try:
            try:
                return await self._reader.read(revision)
            except SourceError as error:
                if error.kind != "corrupt":
                    raise
            await self._ask(replace(self._request(*self._wanted(), TARGET), reclone=True))
            return await self._reader.read(revision)
        except TooCostly as error:
            words = f"commit {revision[:8]} is refused: {error}"
            raise RevisionRefused(
                words, kind=source_error_kind(error.kind), revision=revision, hint=error.hint
            ) from None

    @contextlib.contextmanager
    def _traced(self, revision: Revision, name: str) -> Iterator[None]:
        began, error = self._clock.now().boot, ""
        try:
            yield
        except ReconcilerError as failed:
            error = str(failed)
            raise
        finally:
            seconds = self._clock.now().boot - began
            self._tracer.span(revision, name, seconds, self._config.name, error)

    def _succeeded(self) -> None:
        wall = self._clock.now().wall
        self._status = replace(
            self._status, last_success_wall=wall, failures=0, error="", error_kind=""
        )


def absolute(path: str) -> str:
    """An absolute path, because the worker runs in another working directory."""
    return str(Path(path).absolute()) if path else path


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, SourceError) and error.kind == "network"
