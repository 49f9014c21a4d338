"""Copies a commit with all its objects between repositories of this host, object by object.

For histories that libgit2's own transport refuses: it walks them commit by commit, and stops at the
first author or committer line that it cannot parse.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import pygit2
from pygit2.enums import ObjectType

from reconciler.git_objects import (
    SUBMODULE,
    UNKNOWN,
    MalformedObject,
    commit_of,
    entries_of,
    target_of,
)
from reconciler.source.git.error_kinds import LimitPassed


def copy_objects(origin: Path, mirror: pygit2.Repository, oid: str, most: int) -> None:
    """Add a commit or tag and every object that it needs to the mirror, as one pack.

    An object that the mirror has is not descended into: packs arrive whole or not at all, so the
    objects below it are there too. Raises LimitPassed after `most` objects, and libgit2's errors.
    """
    repository = pygit2.Repository(str(origin))
    try:
        builder = pygit2.PackBuilder(repository)
        waiting, seen = [bytes.fromhex(oid)], set[bytes]()
        while waiting:
            raw_oid = waiting.pop()
            name = pygit2.Oid(raw=raw_oid)
            if raw_oid in seen or mirror.odb.exists(name):
                continue
            seen.add(raw_oid)
            if len(seen) > most:
                raise LimitPassed(f"the repository has more than {most} objects")
            builder.add(name)
            waiting.extend(needs_of(repository, name))
        if seen:
            builder.write(str(Path(mirror.path) / "objects" / "pack"))
    finally:
        repository.free()


def heads_of(origin: Path) -> dict[str, str]:
    """Object ids by ref name, HEAD included, of a repository on this host."""
    repository = pygit2.Repository(str(origin))
    try:
        found = {}
        for name in ("HEAD", *repository.references):
            with contextlib.suppress(
                KeyError, ValueError, pygit2.GitError
            ):  # a ref to a missing object
                found[name] = str(repository.references[name].resolve().target)
        return found
    finally:
        repository.free()


def needs_of(repository: pygit2.Repository, oid: pygit2.Oid) -> list[bytes]:
    """Ids of the objects that an object names, without submodules: those are in other repositories."""
    kind, _ = repository.odb.read_header(oid)
    if kind == ObjectType.BLOB:
        return []
    raw = repository.read(oid)[1]
    try:
        if kind == ObjectType.TREE:
            return [o for mode, _, o in entries_of(raw) if mode not in (SUBMODULE, UNKNOWN)]
        if kind == ObjectType.TAG:
            return [bytes.fromhex(target_of(raw))]
        commit = commit_of(raw)
    except MalformedObject:
        return []  # copied as it is; reading manifests from it will refuse it
    return [bytes.fromhex(name) for name in (*commit.parents, commit.tree)]
