"""Fetches one revision into the bare mirror, and replaces the mirror by a new clone when it is corrupt."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pygit2

from reconciler.errors import SourceError, source_error_kind
from reconciler.git_url import local_path, redacted_text
from reconciler.http_proxies import proxy_for, shown
from reconciler.source.git import known_hosts, local_access
from reconciler.source.git.callbacks import MOST_OBJECTS, Callbacks
from reconciler.source.git.commit_graph import commit_at, has
from reconciler.source.git.error_kinds import (
    SHALLOW,
    LimitPassed,
    failure,
    is_unparsable,
    sorted_failure,
    unsupported,
)
from reconciler.source.git.object_copy import copy_objects, heads_of
from reconciler.source.git.protocol import WorkerAnswer, WorkerRequest

HEX = re.compile(r"[0-9a-f]{4,40}")
WHOLE_HEX = re.compile(r"[0-9a-f]{40}")
BROKEN, NEW, HOME = ".broken", ".new", ".home"
PARTIAL = ("pack_", "tmp_")
MOST_PACKS = 500
"""Each fetch that transfers something leaves a pack, and libgit2 never repacks: past this many, clone again."""
MOST_NAMED = 8
"""Branches or tags that an error lists."""
PROXY_HINT = "check the proxy in the daemon's environment; no_proxy lists hosts that need none"
CLONE_AGAIN = 600.0
"""Seconds before a repository whose clone failed may be cloned again for the same error."""
EVERY_BRANCH = "+refs/heads/*:refs/reconciler/branches/*"

Heads = dict[str, str]


class FailedClones:
    """Errors that a new clone did not solve, so that not every fetch clones the whole repository again."""

    def __init__(self) -> None:
        self._failed: dict[str, tuple[str, float]] = {}

    def just_failed(self, request: WorkerRequest, error: SourceError) -> bool:
        """Whether a clone failed with this error in the last CLONE_AGAIN seconds."""
        words, when = self._failed.get(request.mirror, ("", 0.0))
        return words == str(error) and time.monotonic() - when < CLONE_AGAIN

    def failed(self, request: WorkerRequest, error: SourceError) -> None:
        """Remember that cloning did not help against this error."""
        self._failed[request.mirror] = (str(error), time.monotonic())

    def forget(self, request: WorkerRequest) -> None:
        """The mirror works again: the next error may clone at once."""
        self._failed.pop(request.mirror, None)


CLONES = FailedClones()


def update_mirror(request: WorkerRequest) -> WorkerAnswer:
    """Update the mirror to the requested revision.

    Raises SourceError; the mirror is then what it was before.
    """
    path = Path(request.mirror)
    path.parent.mkdir(parents=True, exist_ok=True)
    trusted = _trusted(path, request)
    try:
        return _update(path, request)
    except SourceError as error:
        if trusted is not None and error.kind == "verify":
            raise trusted.refusal(str(error)) from error
        local = local_path(request.url)
        if local is not None and (fault := local_access.unreadable(local)) is not None:
            raise fault from error
        proxy = proxy_for(request.url)
        if proxy is not None and error.kind in ("network", "timeout"):
            text = redacted_text(str(error), proxy)
            raise failure(
                source_error_kind(error.kind),
                f"{text} (by way of the proxy {shown(proxy)})",
                PROXY_HINT,
            ) from error
        raise


def _trusted(path: Path, request: WorkerRequest) -> known_hosts.Trust | None:
    """For ssh, the host keys that are accepted, written to a home folder that only libgit2 reads."""
    server = known_hosts.server_of(request.url)
    if server is None:
        return None
    home = path.with_name(path.name + HOME)
    found = known_hosts.trust(server, request.known_hosts)
    known_hosts.write_home(found, home)
    pygit2.settings.homedir = str(home)
    return found


def _update(path: Path, request: WorkerRequest) -> WorkerAnswer:
    if request.reclone or not path.exists():
        return _clone(path, request)
    try:
        try:
            revision, moved = _fetch(path, request)
        except pygit2.GitError as error:
            # The transport walks the commits that the mirror has, and may fail on one of them. A fetch into an
            # empty repository walks none.
            if not is_unparsable(error):
                raise
            revision, moved = _fetch_whole(path, request), True
    except Exception as error:  # every error gets a kind: metrics and hints depend on it
        found = sorted_failure(error)
        # Only a damaged mirror is worth a whole clone: for any other fault the clone would fail too.
        if found.kind not in ("corrupt", "unknown") or CLONES.just_failed(request, found):
            raise found from error
        try:
            return _clone(path, request)
        except SourceError as failed:
            CLONES.failed(request, failed)
            raise
    CLONES.forget(request)
    if not moved:
        return WorkerAnswer(revision)
    if used_bytes(path) > request.repository_bytes:
        # Most of it may be objects that rewritten branches left behind: a clone has none of those.
        return _clone(path, request, broken=False)
    if len(list(path.glob("objects/pack/*.pack"))) > MOST_PACKS:
        with contextlib.suppress(SourceError):  # only housekeeping: the revision itself is there
            return _clone(path, request, broken=False)
    return WorkerAnswer(revision)


def _clone(path: Path, request: WorkerRequest, *, broken: bool = True) -> WorkerAnswer:
    """Clone beside the old mirror, then swap the two.

    The newest corrupt mirror is kept as NAME.broken for a person to examine.
    """
    fresh, aside = path.with_name(path.name + NEW), path.with_name(path.name + BROKEN)
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        revision, _ = _fetch(fresh, request)
        if used_bytes(fresh) > request.repository_bytes:
            size = request.repository_bytes >> 20
            raise LimitPassed(f"the repository is larger than {size} MiB")  # noqa: TRY301
    except Exception as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise sorted_failure(error) from error
    if path.exists():
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
    fresh.rename(path)
    if not broken:
        shutil.rmtree(aside, ignore_errors=True)
    return WorkerAnswer(revision, cloned=True)


def _fetch_whole(path: Path, request: WorkerRequest) -> str:
    """Fetch all objects of the remote into an existing mirror. Returns the revision.

    For an incremental fetch libgit2 walks the commits that the mirror has, and fails on one it cannot
    parse. A fetch into an empty repository walks none; its packs then move into the mirror.
    """
    fresh = path.with_name(path.name + NEW)
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        revision, _ = _fetch(fresh, request)
        for suffix in (".pack", ".idx"):  # the pack first: an index without its pack looks corrupt
            for file in fresh.glob(f"objects/pack/*{suffix}"):
                file.replace(path / "objects" / "pack" / file.name)
        # For an annotated tag the ref names the tag object.
        came = _open(fresh, request).references.get(request.ref)
        target = revision if came is None else str(came.target)
        _open(path, request).references.create(request.ref, target, force=True)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return revision


def _fetch(path: Path, request: WorkerRequest) -> tuple[str, bool]:
    """The revision, and whether anything was transferred for it."""
    repository = _open(path, request)
    try:
        present = _present(repository, request)
        if present is not None:
            return present, False
        return _fetch_into(repository, request)
    finally:
        repository.free()


def _open(path: Path, request: WorkerRequest) -> pygit2.Repository:
    """Open the mirror, creating it if it is missing. Raises SourceError: corrupt."""
    if not path.exists():
        return pygit2.init_repository(str(path), bare=True)
    try:
        repository = pygit2.Repository(str(path))
        repository.references.get(request.ref)
    except (pygit2.GitError, ValueError) as error:
        raise failure("corrupt", f"the mirror cannot be opened: {error}") from error
    return repository


def _present(repository: pygit2.Repository, request: WorkerRequest) -> str | None:
    """The commit, if it was requested by its id and the mirror has it: no server needs to be asked."""
    if request.want == "commit" and WHOLE_HEX.fullmatch(request.name):
        return _commit(repository, request.name)
    if request.want == "any" and HEX.fullmatch(request.name):
        return _commit(repository, request.name)
    return None


def _commit(repository: pygit2.Repository, name: str) -> str | None:
    """The commit that a ref or a (possibly abbreviated) id names; None if there is none."""
    try:
        ref = None if HEX.fullmatch(name) else repository.references.get(name)
        oid = str(ref.target) if ref is not None else str(repository.expand_id(name))
    except (KeyError, ValueError, pygit2.GitError):
        return None
    return commit_at(repository, oid)


def _fetch_into(repository: pygit2.Repository, request: WorkerRequest) -> tuple[str, bool]:
    if (local := local_path(request.url)) is not None:
        refuse_shallow(local)
    remote = repository.remotes.create_anonymous(request.url)
    callbacks = Callbacks(request)
    heads = _heads(remote, request, callbacks)
    if request.want == "commit":
        return _fetch_commit(repository, remote, request), True
    name, oid = choose(heads, request)
    known = repository.references.get(request.ref)
    moved = known is None or str(known.target) != oid or _commit(repository, oid) is None
    if moved:
        try:
            remote.fetch(
                [f"+{name}:{request.ref}"], callbacks=callbacks, proxy=proxy_for(request.url)
            )
        except pygit2.GitError as error:
            local = local_path(request.url)
            if local is None or not is_unparsable(error):
                raise
            copy_objects(local, repository, oid, MOST_OBJECTS)
            repository.references.create(request.ref, oid, force=True)
    revision = _commit(repository, request.ref)
    if revision is None:
        if has(repository, oid):
            raise failure("missing", f"{name} does not name a commit")
        raise failure("corrupt", f"{request.ref} is not in the mirror after a fetch")
    return revision, moved


def refuse_shallow(path: Path) -> None:
    """Raise SourceError for a shallow local repository.

    libgit2 would copy it without an error, and ancestry checks would then miss the commits it lacks.
    """
    with contextlib.suppress(pygit2.GitError):  # the fetch itself reports any other fault
        repository = pygit2.Repository(str(path))
        shallow = repository.is_shallow
        repository.free()
        if shallow:
            raise unsupported(SHALLOW)


def _heads(remote: pygit2.Remote, request: WorkerRequest, callbacks: Callbacks) -> Heads:
    """Object ids by ref name, HEAD included, as the remote advertises them."""
    proxy = proxy_for(request.url)
    try:
        return {
            h.name or "": str(h.oid) for h in remote.list_heads(callbacks=callbacks, proxy=proxy)
        }
    except pygit2.GitError as error:
        local = local_path(request.url)
        if local is None or not is_unparsable(error):
            raise
        return heads_of(local)


def _fetch_commit(
    repository: pygit2.Repository, remote: pygit2.Remote, request: WorkerRequest
) -> str:
    """Fetch a commit by its id where the server allows that, otherwise with all branches. Returns the id."""
    if not WHOLE_HEX.fullmatch(request.name):
        raise failure("missing", "source.commit is not a commit id", "write all 40 hex digits")
    attempts: tuple[Callable[[], str], ...] = (
        lambda: f"+{request.name}:{request.ref}",
        lambda: EVERY_BRANCH,
    )
    for index, refspec in enumerate(attempts):
        try:
            remote.fetch([refspec()], callbacks=Callbacks(request), proxy=proxy_for(request.url))
        except pygit2.GitError as error:
            local = local_path(request.url)
            if local is not None and is_unparsable(error):
                copy_objects(local, repository, request.name, MOST_OBJECTS)
            elif index == len(attempts) - 1:
                raise
        if (found := _commit(repository, request.name)) is not None:
            return found
    raise failure("missing", f"no branch has the commit {request.name}")


def choose(heads: Heads, request: WorkerRequest) -> tuple[str, str]:
    """The remote ref that the request names, and its object id. Raises SourceError: missing or empty."""
    if not heads:
        raise failure("empty", "the repository has no commits")
    candidates = {
        "head": ["HEAD"],
        "branch": [f"refs/heads/{request.name}"],
        "tag": [f"refs/tags/{request.name}"],
        "any": [f"refs/heads/{request.name}", f"refs/tags/{request.name}"],
        "commit": [],
    }[request.want]
    if request.want == "any" and request.name == "HEAD":
        candidates = ["HEAD"]
    for name in candidates:
        if name in heads:
            return name, heads[name]
    prefix = "refs/tags/" if request.want == "tag" else "refs/heads/"
    known = [n.removeprefix(prefix) for n in heads if n.startswith(prefix)]
    listed = ", ".join(known[:MOST_NAMED]) or "none"
    if request.want == "head":
        raise failure(
            "missing", "the repository's HEAD names no branch that exists",
            f"set source.branch; it has: {listed}",
        )  # fmt: skip
    what = {"branch": "branch", "tag": "tag"}.get(request.want, "branch, tag or commit")
    raise failure("missing", f"the repository has no {what} {request.name[:80]}", f"has: {listed}")


def used_bytes(path: Path) -> int:
    """Bytes that the mirror's objects take."""
    return sum(
        (Path(folder) / name).stat().st_size
        for folder, _, names in os.walk(path / "objects")
        for name in names
    )


def sweep(path: Path) -> None:
    """Remove locks and partial packs that a killed worker left. Only one worker writes to a mirror."""
    for lock in (*path.glob("*.lock"), *path.glob("refs/**/*.lock")):
        lock.unlink(missing_ok=True)
    for partial in path.glob("objects/pack/*"):
        if partial.suffix == "" and partial.name.startswith(PARTIAL):
            partial.unlink(missing_ok=True)
    shutil.rmtree(path.with_name(path.name + NEW), ignore_errors=True)
