"""The commit graph of a repository: what a tag points to, and what a commit descends from.

libgit2 refuses a whole history for one malformed author line that git accepts. It is tried first,
because it is fast; if it fails, the raw objects are walked.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pygit2
from pygit2.enums import ObjectType, SortMode

from reconciler.git_objects import CommitObject, MalformedObject, commit_of, target_of
from reconciler.source.git.error_kinds import failure

MOST_TAGS = 8
"""Length of a chain of tags that point to tags."""


def commit_at(repository: pygit2.Repository, oid: str) -> str | None:
    """The commit that an object is, or that a tag points to; None if there is none."""
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
    """Whether an object exists. Unlike `in` this does not parse it, so malformed ones count."""
    return repository.odb.exists(pygit2.Oid(hex=oid))


def read(repository: pygit2.Repository, oid: str) -> CommitObject:
    """Read a commit. Raises SourceError: corrupt, if it is missing or not a commit."""
    try:
        kind, raw = repository.read(pygit2.Oid(hex=oid))
        if kind == ObjectType.COMMIT:
            return commit_of(raw)
    except (pygit2.GitError, LookupError, ValueError) as error:
        raise failure("corrupt", f"commit {oid[:8]} cannot be read: {error}") from error
    raise failure("corrupt", f"{oid[:8]} is not a commit")


def descends(repository: pygit2.Repository, revision: str, former: str) -> bool:
    """Whether `revision` is `former` or descends from it."""
    if revision == former:
        return True
    if not has(repository, former):
        return False
    try:
        return repository.descendant_of(revision, former)
    except (pygit2.GitError, ValueError):
        return any(oid == former for oid in ancestry(repository, revision, frozenset()))


def since(repository: pygit2.Repository, revision: str, known: list[str], most: int) -> list[str]:
    """At most `most` commits: `revision` and its ancestors, without `known` commits and their ancestors."""
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
    """A commit and all its ancestors, each once, without walking past `hidden` ones."""
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
