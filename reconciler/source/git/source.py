"""A git repository as a source of desired states: fetched by a child, read from the mirror."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random

from reconciler.clock import Clock
from reconciler.config import KernelsConfig, PolicyConfig, SourceConfig
from reconciler.errors import ManifestErrors, ReconcilerError, RevisionRefused, SourceError
from reconciler.git_url import local_path, redacted_url
from reconciler.model.desired import ANY, DesiredState, Fetched, Lineage
from reconciler.model.names import Revision
from reconciler.model.source_state import CommitSummary
from reconciler.model.status import SourceStatus
from reconciler.source.git import commit_log, local_access
from reconciler.source.git.error_kinds import failure
from reconciler.source.git.fetch_client import FetchChild
from reconciler.source.git.libgit2_limits import MIB, bound_library
from reconciler.source.git.polling import LocalWatch, delay_after, pause_before_reading_again
from reconciler.source.git.protocol import Scrutiny, Want, WorkerAnswer, WorkerRequest
from reconciler.source.manifests.transfer import Settings
from reconciler.source.manifests.worker_client import START_SECONDS, ManifestReader, TooCostly
from reconciler.spans import UNTRACED, Tracer

TARGET = "refs/reconciler/target"
PREVIEW = "refs/reconciler/preview"
ATTEMPTS = 2
"""At once, for a connection that broke; whatever lasts longer is the loop's to wait for."""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.05, 0.2
MOST_REF = 200
LOOK_STEPS = 2
"""What a look asks the fetching child, each within source.fetch_timeout: fetch, and judge what came."""
READS = 2
"""What a look asks the reading child: a revision, once more when the mirror had to be cloned anew."""
LOOK_BACK = 5.0
"""Seconds for reading some commits of the mirror for people."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A revision that was read and is bad: asked about again, it is not read again."""

    revision: str
    lineage: Lineage
    error: ManifestErrors | RevisionRefused
    tries: int = 1
    until: float | None = None
    """Of the boot clock, after which it is read again all the same: the host may have been slow."""

    def holds(self, revision: Revision, lineage: Lineage, boot: float) -> bool:
        if (self.revision, self.lineage) != (revision, lineage):
            return False
        return self.until is None or boot < self.until

    def again(self) -> ManifestErrors | RevisionRefused:
        """A new one each time: a raised error holds on to its traceback."""
        error = self.error
        if isinstance(error, ManifestErrors):
            return ManifestErrors(list(error.problems), revision=error.revision, more=error.more)
        return RevisionRefused(
            str(error), kind=error.kind, revision=error.revision, hint=error.hint
        )


class GitSource:
    """Satisfies the engine's port `Source`. `close` it when done."""

    def __init__(
        self,
        config: SourceConfig,
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
        self._child = FetchChild(config.max_repository_mib, config.fetch_timeout)
        self._lock = asyncio.Lock()
        self._given: Revision | None = None
        self._rejected: Rejected | None = None
        self._status = SourceStatus(config.name, redacted_url(config.url), None, 0)
        self._watch: LocalWatch | None = None

    @property
    def repository(self) -> Path:
        return self._path

    @property
    def parsed_files(self) -> int:
        """Files of manifests that were parsed, ever."""
        return self._reader.parsed_files

    @property
    def remembered_entries(self) -> int:
        """Of folders of the newest revisions, kept to read only what a push changed."""
        return self._reader.entries

    @property
    def child_pid(self) -> int | None:
        """The fetching child's, while it lives."""
        return self._child.pid

    @property
    def reader_pid(self) -> int | None:
        """The reading child's, while it lives."""
        return self._reader.pid

    def status(self) -> SourceStatus:
        return self._status

    def next_delay(self, failures: int) -> float:
        return delay_after(
            failures,
            self._config.poll_interval,
            local=self._local is not None,
            draw=random.random(),  # noqa: S311 - spreads load, hides nothing
        )

    def longest_look(self) -> float:
        reads = READS * (START_SECONDS + self._config.read_timeout)
        return LOOK_STEPS * self._config.fetch_timeout + reads

    async def fetch(self, lineage: Lineage = ANY) -> Fetched:
        """Look now. Whatever goes wrong, what was read before stays as it was."""
        async with self._lock:
            try:
                return await self._fetch(lineage)
            except RevisionRefused:
                raise  # the source answers well; it is what it says that is not taken
            except SourceError as error:
                failures = self._status.failures + 1
                self._status = replace(
                    self._status, failures=failures, error=str(error), error_kind=error.kind
                )
                raise
            finally:
                if self._watch is not None:
                    self._watch.refresh()

    async def _fetch(self, lineage: Lineage) -> Fetched:
        began = self._clock.now().boot
        answer = await self._ask(self._request(*self._wanted(), TARGET))
        revision = Revision(answer.revision)
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
                await self._scrutinise(revision, lineage)
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
        if error.kind in ("limit", "timeout"):
            if former is not None and former.revision == revision:
                tries = former.tries + 1
            until = self._clock.now().boot + pause_before_reading_again(tries)
        self._rejected = Rejected(revision, lineage, error, tries, until)

    async def _scrutinise(self, revision: Revision, lineage: Lineage) -> None:
        """Raises RevisionRefused. A commit that the settings name is nobody else's to move."""
        config = self._config
        scrutiny = Scrutiny(
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
                str(error), kind=error.kind, revision=revision, hint=error.hint
            ) from None

    async def load(self, revision: Revision) -> DesiredState:
        """A revision that was fetched before, and is from now on the one that is known."""
        async with self._lock:
            state = await self._reader.read(revision)
            self._given = revision
            return state

    async def preview(self, ref: str) -> DesiredState:
        """What a branch, tag or commit says, without adopting it."""
        if not ref or len(ref) > MOST_REF or not ref.isprintable():
            raise failure("missing", "not a name of a branch, tag or commit")
        async with self._lock:
            answer = await self._ask(self._request("any", ref, PREVIEW))
            return await self._read(Revision(answer.revision))

    async def commits(self, tips: Sequence[str], most: int) -> tuple[CommitSummary, ...]:
        """The newest commits that lead to these, from the mirror as it is."""
        try:
            async with asyncio.timeout(LOOK_BACK):
                return await asyncio.to_thread(commit_log.newest, self._path, tuple(tips), most)
        except TimeoutError:
            raise failure("timeout", f"the history was not read in {LOOK_BACK:g} s") from None

    def watch(self, callback: Callable[[], None]) -> None:
        """Call back on the running loop when a local repository's refs move; a hint, no promise."""
        if self._local is not None:
            self._watch = LocalWatch(self._local, callback)

    async def close(self) -> None:
        if self._watch is not None:
            await asyncio.to_thread(self._watch.close)
            self._watch = None
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
        """Ask the child within one deadline, at once again when a remote's connection broke."""
        if self._local is not None:
            fault = await asyncio.to_thread(local_access.unreachable, self._local)
            if fault is not None:
                raise fault
        retrying = AsyncRetrying(
            stop=stop_after_attempt(ATTEMPTS if self._local is None else 1),
            wait=wait_random(SHORTEST_PAUSE, LONGEST_PAUSE),
            retry=retry_if_exception(is_transient),
            reraise=True,
        )
        try:
            async with asyncio.timeout(request.deadline):
                return await retrying(self._child.ask, request)
        except TimeoutError:
            raise failure("timeout", f"no answer within {request.deadline:g} s") from None

    async def _read(self, revision: Revision) -> DesiredState:
        """Read a fetched revision; a mirror that turns out broken is cloned anew, once.

        Raises ManifestErrors, RevisionRefused when it cannot be read within the bounds, or SourceError.
        """
        try:
            try:
                return await self._reader.read(revision)
            except SourceError as error:
                if error.kind != "corrupt":
                    raise
            await self._ask(replace(self._request(*self._wanted(), TARGET), anew=True))
            return await self._reader.read(revision)
        except TooCostly as error:
            words = f"commit {revision[:8]} is refused: {error}"
            raise RevisionRefused(
                words, kind=error.kind, revision=revision, hint=error.hint
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
    """The child works in another folder than we do."""
    return str(Path(path).absolute()) if path else path


def is_transient(error: BaseException) -> bool:
    return isinstance(error, SourceError) and error.kind == "network"
