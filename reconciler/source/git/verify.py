"""Whether a fetched commit may be followed: it descends from what was followed, and carries the required signatures."""

from __future__ import annotations

import pygit2
from pygit2.enums import ObjectType

from reconciler.source.git.commit_graph import descends, has, since
from reconciler.source.git.error_kinds import failure
from reconciler.source.git.protocol import VerifyRequest, WorkerAnswer
from reconciler.source.git.signatures import BadSignature, Signers

MOST_COMMITS = 10_000
"""Commits of one push whose signatures are checked; each costs a process."""
MOST_COMMIT_BYTES = 1024 * 1024


def verify(task: VerifyRequest) -> WorkerAnswer:
    """Check a revision that is in the mirror.

    Raises SourceError: `ancestry`, `verify`, or a fault of the mirror.
    """
    repository = pygit2.Repository(task.mirror)
    try:
        if task.must_continue:
            _judge_lineage(repository, task)
        if task.verify != "off":
            _judge_signatures(repository, task)
    finally:
        repository.free()
    return WorkerAnswer(task.revision)


def _judge_lineage(repository: pygit2.Repository, task: VerifyRequest) -> None:
    if task.rewritten and descends(repository, task.revision, task.rewritten):
        return
    for former in task.followed:
        if descends(repository, task.revision, former):
            continue
        back = has(repository, former) and descends(repository, former, task.revision)
        what = "was set back to a commit before" if back else "does not continue"
        raise failure(
            "ancestry", f"commit {task.revision[:8]} is refused: the branch {what} {former[:8]}",
            f"`reconciler accept-rewrite {task.revision[:8]}` follows it all the same",
        )  # fmt: skip


def _judge_signatures(repository: pygit2.Repository, task: VerifyRequest) -> None:
    signers = Signers(task.allowed_signers, task.keyring)
    for count, oid in enumerate(_commits(repository, task)):
        if count >= MOST_COMMITS:
            raise failure(
                "verify", f"more than {MOST_COMMITS} commits since the last one are to be verified",
                "push fewer at once",
            )  # fmt: skip
        raw = _commit(repository, oid)
        try:
            signers.check(raw)
        except BadSignature as error:
            below = "" if oid == task.revision else f" (below {task.revision[:8]})"
            raise failure(
                "verify", f"commit {oid[:8]}{below} is refused: {error}", error.hint
            ) from None


def _commits(repository: pygit2.Repository, task: VerifyRequest) -> list[str]:
    """The revision, and with `since-last` every commit since those followed before."""
    known = [c for c in (*task.followed, task.rewritten) if c and has(repository, c)]
    if task.verify == "head" or not known:
        return [task.revision]
    came = since(repository, task.revision, known, MOST_COMMITS + 1)
    return [task.revision, *(oid for oid in came if oid != task.revision)]


def _commit(repository: pygit2.Repository, name: str) -> bytes:
    """The bytes that were hashed for the commit's id: what a signature covers. Raises SourceError."""
    oid = pygit2.Oid(hex=name)
    _, size = repository.odb.read_header(oid)
    if size > MOST_COMMIT_BYTES:
        raise failure("limit", f"commit {name[:8]} is larger than {MOST_COMMIT_BYTES >> 20} MiB")
    kind, raw = repository.read(oid)
    if kind != ObjectType.COMMIT:
        raise failure("missing", f"{name[:8]} is not a commit")
    return raw
