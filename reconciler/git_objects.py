"""Parses git's tree, commit and tag objects from their bytes as git does. Their content is untrusted.

libgit2 refuses some commits that git accepts, and interprets some modes of trees differently. So every
walk over trees and every read of a commit uses this module.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

TREE, FILE, PROGRAM, LINK, SUBMODULE = b"40000", b"100644", b"100755", b"120000", b"160000"
"""Git's modes; `entries_of` normalises every mode to one of them."""
UNKNOWN = b""
"""A mode that git does not have. Callers must refuse such entries, not skip them."""

_ENTRY = re.compile(rb"([0-7]{1,11}) ([^\0]+)\0(.{20})", re.DOTALL)
_WHOLE = re.compile(rb"(?:[0-7]{1,11} [^\0]+\0.{20})*+", re.DOTALL)
_KIND, _REGULAR, _EXECUTABLE = 0o170000, 0o100000, 0o100
_KINDS = {0o040000: TREE, 0o120000: LINK, 0o160000: SUBMODULE}
_LARGEST = 0o177777
_HEX = rb"[0-9a-f]{40}"
_COMMIT = re.compile(rb"tree (%s)\n((?:parent %s\n)*)" % (_HEX, _HEX))
_TAG = re.compile(rb"object (%s)\ntype [a-z]+\n" % _HEX)

Entry = tuple[bytes, bytes, bytes]
"""Mode, name, id."""


class MalformedObject(ValueError):
    """The object's bytes do not have the form of its kind."""


@lru_cache(maxsize=256)
def mode_of(written: bytes) -> bytes:
    """The mode that git derives from octal digits: 040000 and 40755 are folders, 100664 is a file."""
    mode = int(written, 8)
    if mode > _LARGEST:
        return UNKNOWN
    kind = mode & _KIND
    if kind == _REGULAR:
        return PROGRAM if mode & _EXECUTABLE else FILE
    return _KINDS.get(kind, UNKNOWN)


def entries_of(tree: bytes) -> list[Entry]:
    """The entries of a tree object, with normalised modes. Raises MalformedObject."""
    if _WHOLE.fullmatch(tree) is None:
        raise MalformedObject("not the form of a tree")
    return [(mode_of(mode), name, oid) for mode, name, oid in _ENTRY.findall(tree)]


@dataclass(frozen=True, slots=True)
class CommitObject:
    """A parsed commit. Ids are 40 hex digits."""

    tree: str
    parents: tuple[str, ...]
    authored: int
    """Unix time from the author line; 0 if it has none that can be parsed."""
    committed: int
    message: bytes


def commit_of(raw: bytes) -> CommitObject:
    """Parse a commit; its author and committer lines may be malformed. Raises MalformedObject."""
    found = _COMMIT.match(raw)
    if found is None:
        raise MalformedObject("not the form of a commit")
    parents = tuple(line[7:].decode() for line in found[2].splitlines())
    header, _, message = raw[found.end() :].partition(b"\n\n")
    times: dict[bytes, int] = {}
    for line in header.split(b"\n"):
        who, _, rest = line.partition(b" ")
        if who in (b"author", b"committer"):
            times.setdefault(who, _time_in(rest))
    authored, committed = (times.get(who, 0) for who in (b"author", b"committer"))
    return CommitObject(found[1].decode(), parents, authored, committed, message)


def target_of(tag: bytes) -> str:
    """The id that an annotated tag points to. Raises MalformedObject."""
    found = _TAG.match(tag)
    if found is None:
        raise MalformedObject("not the form of a tag")
    return found[1].decode()


def _time_in(person: bytes) -> int:
    """The unix time of an author or committer: as in git, the number after the last bracket."""
    _, bracket, rest = person.rpartition(b">")
    found = re.match(rb"\s*(-?[0-9]{1,18})(?![0-9])", rest) if bracket else None
    return int(found[1]) if found else 0
