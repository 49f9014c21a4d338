"""Git's tree and commit objects, read from their bytes as git reads them; nothing in them is believed.

libgit2 refuses commits that git takes, and reads some modes of trees otherwise. Every walk of ours
over trees, and every look at a commit, comes through here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

TREE, FILE, PROGRAM, LINK, SUBMODULE = b"40000", b"100644", b"100755", b"120000", b"160000"
"""The modes that git has; `entries_of` gives these, whatever stands in the tree."""
UNKNOWN = b""
"""A mode of none of git's kinds. It is never passed over: whoever meets it refuses it."""

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
    """What git takes the digits of a mode for: 040000 and 40755 are folders, 100664 is a file."""
    mode = int(written, 8)
    if mode > _LARGEST:
        return UNKNOWN
    kind = mode & _KIND
    if kind == _REGULAR:
        return PROGRAM if mode & _EXECUTABLE else FILE
    return _KINDS.get(kind, UNKNOWN)


def entries_of(tree: bytes) -> list[Entry]:
    """The entries of a tree object, each with a mode of ours. Raises Malformed."""
    if _WHOLE.fullmatch(tree) is None:
        raise MalformedObject("not the form of a tree")
    return [(mode_of(mode), name, oid) for mode, name, oid in _ENTRY.findall(tree)]


@dataclass(frozen=True, slots=True)
class CommitObject:
    tree: str
    parents: tuple[str, ...]
    authored: int
    """Seconds since 1970 as the author's line has them; 0 where it has none that can be read."""
    committed: int
    message: bytes


def commit_of(raw: bytes) -> CommitObject:
    """A commit whose lines about people may say anything. Raises Malformed."""
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
    """What an annotated tag names. Raises Malformed."""
    found = _TAG.match(tag)
    if found is None:
        raise MalformedObject("not the form of a tag")
    return found[1].decode()


def _time_in(person: bytes) -> int:
    """As git has it: the number behind the last bracket."""
    _, bracket, rest = person.rpartition(b">")
    found = re.match(rb"\s*(-?[0-9]{1,18})(?![0-9])", rest) if bracket else None
    return int(found[1]) if found else 0
