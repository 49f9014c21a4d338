"""Whether a fetched commit may be followed: it continues what was followed, and is signed as asked."""

from __future__ import annotations

from collections.abc import Iterator

import pygit2
from pygit2.enums import ObjectType, SortMode

from reconciler.source.failures import failure
from reconciler.source.request import Answer, Scrutiny
from reconciler.source.signatures import BadSignature, Signers

MOST_COMMITS = 10_000
"""Signatures that are checked of one push."""
MOST_COMMIT_BYTES = 1024 * 1024


def scrutinise(task: Scrutiny) -> Answer:
    """Raises SourceError: ancestry, verify, or whatever is wrong with the mirror."""
    repository = pygit2.Repository(task.mirror)
    try:
        if task.must_continue:
            _judge_lineage(repository, task)
        if task.verify != "off":
            _judge_signatures(repository, task)
    finally:
        repository.free()
    return Answer(task.revision)


def _judge_lineage(repository: pygit2.Repository, task: Scrutiny) -> None:
    if task.rewritten and _continues(repository, task.revision, task.rewritten):
        return
    for former in task.followed:
        if _continues(repository, task.revision, former):
            continue
        back = former in repository and _continues(repository, former, task.revision)
        what = "was set back to a commit before" if back else "does not continue"
        raise failure(
            "ancestry", f"commit {task.revision[:8]} is refused: the branch {what} {former[:8]}",
            f"`reconciler accept-rewrite {task.revision[:8]}` follows it all the same",
        )  # fmt: skip


def _continues(repository: pygit2.Repository, revision: str, former: str) -> bool:
    if revision == former:
        return True
    return former in repository and repository.descendant_of(revision, former)


def _judge_signatures(repository: pygit2.Repository, task: Scrutiny) -> None:
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
            below = "" if str(oid) == task.revision else f" (below {task.revision[:8]})"
            raise failure(
                "verify", f"commit {str(oid)[:8]}{below} is refused: {error}", error.hint
            ) from None


def _commits(repository: pygit2.Repository, task: Scrutiny) -> Iterator[pygit2.Oid]:
    """The revision itself, and with `since-last` all that came with it."""
    yield pygit2.Oid(hex=task.revision)
    known = [c for c in (*task.followed, task.rewritten) if c and c in repository]
    if task.verify == "head" or not known:
        return
    walker = repository.walk(pygit2.Oid(hex=task.revision), SortMode.TOPOLOGICAL)
    for former in known:
        walker.hide(pygit2.Oid(hex=former))
    for commit in walker:
        if str(commit.id) != task.revision:
            yield commit.id


def _commit(repository: pygit2.Repository, oid: pygit2.Oid) -> bytes:
    """A commit as it was hashed."""
    _, size = repository.odb.read_header(oid)
    if size > MOST_COMMIT_BYTES:
        raise failure(
            "limit", f"commit {str(oid)[:8]} is larger than {MOST_COMMIT_BYTES >> 20} MiB"
        )
    kind, raw = repository.read(oid)
    if kind != ObjectType.COMMIT:
        raise failure("missing", f"{str(oid)[:8]} is no commit")
    return raw
