"""The newest commits of the mirror, for the page: a bounded number, read one by one."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from pathlib import Path

import pygit2
from pygit2.enums import ObjectType

from reconciler.git_objects import commit_of
from reconciler.model.names import Revision
from reconciler.model.source_state import CommitSummary
from reconciler.source.git.error_kinds import failure
from reconciler.source.git.mirror import REVISION

MOST_COMMITS = 200
MOST_PARENTS = 8
"""Parents of a commit that are shown; an octopus merge may have more."""
MOST_COMMIT_BYTES = 64 * 1024
"""Size of the largest commit that is parsed; a larger one is shown without its subject."""
MOST_SUBJECT = 200


def newest(mirror: Path, tips: Iterable[str], most: int) -> tuple[CommitSummary, ...]:
    """At most `most` of the newest ancestors of the tips, children before parents. Raises SourceError.

    Missing tips and parents are left out: a refused commit may have left the history.
    """
    if not mirror.exists():
        return ()
    repository = None
    try:
        repository = pygit2.Repository(str(mirror))
        return _in_order(_walk(repository, tips, min(most, MOST_COMMITS)))
    except (pygit2.GitError, KeyError, ValueError) as error:
        raise failure("corrupt", f"the history cannot be read: {str(error)[:200]}") from error
    finally:
        if repository is not None:
            repository.free()


def _walk(
    repository: pygit2.Repository, tips: Iterable[str], most: int
) -> list[tuple[int, CommitSummary]]:
    """The newest commits with their committer times (unix seconds), newest first."""
    found: list[tuple[int, CommitSummary]] = []
    seen: set[str] = set()
    waiting: list[tuple[int, str, CommitSummary]] = []

    def meet(name: str) -> None:
        if name in seen or not REVISION.fullmatch(name):
            return
        seen.add(name)
        if repository.odb.exists(pygit2.Oid(hex=name)):
            made, commit = _read(repository, name)
            heapq.heappush(waiting, (-made, name, commit))

    for tip in tips:
        meet(tip)
    while waiting and len(found) < most:
        made, _, commit = heapq.heappop(waiting)
        found.append((-made, commit))
        for parent in commit.parents:
            meet(parent)
    return found


def _read(repository: pygit2.Repository, name: str) -> tuple[int, CommitSummary]:
    kind, size = repository.odb.read_header(pygit2.Oid(hex=name))
    if kind != ObjectType.COMMIT or size > MOST_COMMIT_BYTES:
        return 0, CommitSummary(Revision(name), (), "(too large to show)", 0.0)
    read = commit_of(repository.read(pygit2.Oid(hex=name))[1])
    lines = read.message.decode("utf-8", "replace").strip().splitlines()
    parents = tuple(Revision(oid) for oid in read.parents[:MOST_PARENTS])
    subject = lines[0][:MOST_SUBJECT] if lines else "(no message)"
    return read.committed, CommitSummary(Revision(name), parents, subject, float(read.authored))


def _in_order(found: list[tuple[int, CommitSummary]]) -> tuple[CommitSummary, ...]:
    """Topological order, children first, since committers' clocks may be wrong; otherwise newest first."""
    commits = {commit.revision: (made, commit) for made, commit in found}
    children = dict.fromkeys(commits, 0)
    for _, commit in found:
        for parent in set(commit.parents) & commits.keys():
            children[parent] += 1
    free = [(-made, name) for name, (made, _) in commits.items() if not children[name]]
    heapq.heapify(free)
    ordered: list[CommitSummary] = []
    while free:
        _, name = heapq.heappop(free)
        ordered.append(commits[name][1])
        for parent in set(ordered[-1].parents) & commits.keys():
            children[parent] -= 1
            if not children[parent]:
                heapq.heappush(free, (-commits[parent][0], parent))
    return tuple(ordered)
