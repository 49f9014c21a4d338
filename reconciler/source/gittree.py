"""Git's tree objects as they are stored: names are bytes, and nothing in them is believed."""

from __future__ import annotations

import re
from dataclasses import dataclass

TREE, FILE, PROGRAM, LINK, SUBMODULE = b"40000", b"100644", b"100755", b"120000", b"160000"
ENTRY = re.compile(rb"([0-7]{5,6}) ([^\0]+)\0(.{20})", re.DOTALL)
WHOLE = re.compile(rb"(?:[0-7]{5,6} [^\0]+\0.{20})*+", re.DOTALL)
MANIFEST_SUFFIXES = (".yaml", ".yml")
GIT_NAMES = frozenset({".git", "git~1"})

Entry = tuple[bytes, bytes, bytes]
"""Mode, name, id."""


class NotATree(ValueError):
    """The object's bytes do not have the form of a tree."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What one folder of a repository means to manifests; kept by the id of its tree."""

    entries: int
    files: tuple[tuple[str, bytes], ...]
    """Regular files that may hold manifests, by name."""
    folders: tuple[tuple[str, bytes], ...]
    links: tuple[tuple[str, bytes], ...]
    """Symbolic links that may lead to a folder."""
    odd: tuple[tuple[str, str, str], ...]
    """Name as it may be shown, what is wrong with it, what to do."""


def entries_of(raw: bytes) -> list[Entry]:
    """Raises NotATree."""
    if WHOLE.fullmatch(raw) is None:
        raise NotATree
    return ENTRY.findall(raw)


def listing_of(raw: bytes) -> Listing:
    """Sort a folder's entries by what they are. Raises NotATree."""
    entries = entries_of(raw)
    files: list[tuple[str, bytes]] = []
    folders: list[tuple[str, bytes]] = []
    links: list[tuple[str, bytes]] = []
    odd: list[tuple[str, str, str]] = []
    for mode, raw_name, oid in entries:
        name = raw_name.decode("utf-8", "backslashreplace")
        is_manifest = name.lower().endswith(MANIFEST_SUFFIXES)
        if fault := fault_of_name(name, raw_name):
            odd.append((printable(name), fault, "rename it"))
        elif mode == TREE:
            folders.append((name, oid))
        elif mode == SUBMODULE:
            odd.append((name, "is a submodule, which is never read", "copy its files instead"))
        elif mode == LINK and is_manifest:
            odd.append((name, "is a symbolic link, which is never followed", "copy the file"))
        elif mode == LINK:
            links.append((name, oid))
        elif is_manifest and mode in (FILE, PROGRAM):
            files.append((name, oid))
        elif is_manifest:
            odd.append((name, f"has the mode {mode.decode()}", "let it be a regular file"))
    odd.extend(colliding([name for name, _ in files + folders]))
    return Listing(len(entries), tuple(files), tuple(folders), tuple(links), tuple(odd))


def fault_of_name(name: str, raw: bytes) -> str:
    if not name.isprintable():
        return "has control characters in its name"
    if name.encode("utf-8") != raw:
        return "has a name that is not UTF-8"
    if "/" in name or "\\" in name or name in (".", "..") or name.lower() in GIT_NAMES:
        return "has a name that git forbids"
    return ""


def printable(name: str) -> str:
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in name)[:255]


def colliding(names: list[str]) -> list[tuple[str, str, str]]:
    seen: dict[str, str] = {}
    found = []
    for name in names:
        first = seen.setdefault(name.casefold(), name)
        if first != name:
            found.append((name, f"differs from {first} by case alone", "rename one of them"))
    return found
