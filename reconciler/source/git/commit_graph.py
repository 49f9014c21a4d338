"""Commits of a repository by their bytes: what a name leads to, and what a commit descends from.

libgit2 refuses a whole history for one author's line that git takes. It is asked first, as it is
fast; where it gives up, the objects themselves are walked.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pygit2
from pygit2.enums import ObjectType, SortMode

from reconciler.git_objects import CommitObject, MalformedObject, commit_of, target_of
from reconciler.source.git.error_kinds import failure

MOST_TAGS = 8
"""Tags of tags that are followed."""


def commit_at(repository: pygit2.Repository, oid: str) -> str | None:
    """The commit that an object is, or that the tag it is leads to."""
    for _ in range(MOST_TAGS):
        try:
            kind, raw = repository.read(pygit2.Oid(hex=oid))
        except (KeyError, ValueError):
            return None
        if kind == ObjectType.COMMIT:
            return oid
        if kind != ObjectType.TAG:
            return None
        try:
            oid = target_of(raw)
        except MalformedObject:
            return None
    return None


def has(repository: pygit2.Repository, oid: str) -> bool:
    """Whether the object is there, whatever its form: `in` would read it."""
    return repository.odb.exists(pygit2.Oid(hex=oid))


def read(repository: pygit2.Repository, oid: str) -> CommitObject:
    """Raises SourceError: corrupt, when it is not there or no commit."""
    try:
        kind, raw = repository.read(pygit2.Oid(hex=oid))
        if kind == ObjectType.COMMIT:
            return commit_of(raw)
    except (pygit2.GitError, LookupError, ValueError) as error:
        raise failure("corrupt", f"commit {oid[:8]} cannot be read: {error}") from error
    raise failure("corrupt", f"{oid[:8]} is no commit")


def descends(repository: pygit2.Repository, revision: str, former: str) -> bool:
    """Whether one commit is, or continues, the other."""
    if revision == former:
        return True
    if not has(repository, former):
        return False
    try:
        return repository.descendant_of(revision, former)
    except (pygit2.GitError, ValueError):
        return any(oid == former for oid in ancestry(repository, revision, frozenset()))


def since(repository: pygit2.Repository, revision: str, known: list[str], most: int) -> list[str]:
    """A commit, and those before it that are not known, nor before one that is; only so many."""
    try:
        walker = repository.walk(pygit2.Oid(hex=revision), SortMode.TOPOLOGICAL)
        for former in known:
            walker.hide(pygit2.Oid(hex=former))
        return [str(commit.id) for commit in islice(walker, most)]
    except (pygit2.GitError, ValueError):
        hidden = set[str]()
        for former in known:
            hidden.update(ancestry(repository, former, hidden))
        return list(islice(ancestry(repository, revision, hidden), most))


def ancestry(
    repository: pygit2.Repository, revision: str, hidden: frozenset[str] | set[str]
) -> Iterator[str]:
    """A commit and all before it, each once, without those that are hidden."""
    seen, waiting = {revision}, [revision]
    if revision in hidden:
        return
    while waiting:
        oid = waiting.pop()
        yield oid
        for parent in read(repository, oid).parents:
            if parent not in seen and parent not in hidden:
                seen.add(parent)
                waiting.append(parent)
