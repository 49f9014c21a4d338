"""What entries of a repository's folders mean for manifests: each has a use, or is refused by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reconciler.errors import SourceError
from reconciler.git_objects import (
    LINK,
    SUBMODULE,
    TREE,
    UNKNOWN,
    Entry,
    entries_of,
)
from reconciler.source.manifests.revision_files import FileRefused

MANIFEST_SUFFIXES = (".yaml", ".yml")
GIT_NAMES = frozenset({".git", "git~1"})
OF_NO_KIND = (
    "has a mode that git does not know", "commit it again as a file or a folder: see `git fsck`",
)  # fmt: skip
UNREADABLE = (
    "is a folder that git itself cannot read", "commit it again with git: see `git fsck`",
)  # fmt: skip
ENTRY_KINDS = {
    LINK: "a symbolic link",
    SUBMODULE: "a submodule",
    UNKNOWN: "of a kind that git does not know",
}


MOST_REMEMBERED = 10_000
"""Entries that are remembered before all are forgotten."""


class FolderEntries:
    """Mode and id by name, of folders in which a file was looked up; each is parsed once."""

    def __init__(self, read: Callable[[bytes], bytes]) -> None:
        """`read` returns the raw tree of an id."""
        self._read = read
        self._folders: dict[bytes, dict[bytes, tuple[bytes, bytes]]] = {}
        self._count = 0

    def find(self, folder: bytes, name: bytes) -> tuple[bytes, bytes] | None:
        """Mode and id of an entry. Raises MalformedObject."""
        if folder not in self._folders:
            if self._count > MOST_REMEMBERED:
                self._folders.clear()
                self._count = 0
            entries = entries_of(self._read(folder))
            self._count += len(entries)
            self._folders[folder] = {found: (mode, oid) for mode, found, oid in reversed(entries)}
        return self._folders[folder].get(name)


@dataclass(frozen=True, slots=True)
class Listing:
    """The entries of one folder, sorted by use; cached by the id of its tree."""

    entries: int
    files: tuple[tuple[str, bytes], ...]
    """Names and blob ids of regular files that may hold manifests."""
    folders: tuple[tuple[str, bytes], ...]
    links: tuple[tuple[str, bytes], ...]
    """Names and blob ids of symbolic links that may point to a folder."""
    odd: tuple[tuple[str, str, str], ...]
    """Refused entries: printable name, what is wrong, what to do."""


def listing_of(raw: bytes) -> Listing:
    """Sort the entries of a raw tree object. Raises MalformedObject."""
    entries = entries_of(raw)
    files: list[tuple[str, bytes]] = []
    folders: list[tuple[str, bytes]] = []
    links: list[tuple[str, bytes]] = []
    odd: list[tuple[str, str, str]] = []
    for mode, raw_name, oid in entries:
        name = raw_name.decode("utf-8", "backslashreplace")
        is_manifest = name.lower().endswith(MANIFEST_SUFFIXES)
        if fault := _fault_of_name(name, raw_name):
            odd.append((printable(name), fault, "rename it"))
        elif mode == TREE:
            folders.append((name, oid))
        elif mode == SUBMODULE:
            odd.append((name, "is a submodule, which is never read", "copy its files instead"))
        elif mode == LINK and is_manifest:
            odd.append((name, "is a symbolic link, which is never followed", "copy the file"))
        elif mode == LINK:
            links.append((name, oid))
        elif mode == UNKNOWN:
            odd.append((name, *OF_NO_KIND))
        elif is_manifest:
            files.append((name, oid))
    odd.extend(repeated(entries))
    odd.extend(colliding([name for name, _ in files + folders]))
    return Listing(len(entries), tuple(files), tuple(folders), tuple(links), tuple(odd))


def _fault_of_name(name: str, raw: bytes) -> str:
    if not name.isprintable():
        return "has control characters in its name"
    if name.encode("utf-8") != raw:
        return "has a name that is not UTF-8"
    return "has a name that git forbids" if forbidden(name) else ""


def forbidden(name: str) -> bool:
    """Whether git refuses to check out an entry of this name."""
    return "/" in name or "\\" in name or name in (".", "..") or name.lower() in GIT_NAMES


def printable(name: str) -> str:
    """A name safe to show: unprintable characters escaped, at most 255 characters."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in name)[:255]


def repeated(entries: Sequence[Entry]) -> list[tuple[str, str, str]]:
    """Refusals for names that a folder has twice: readers would disagree on which entry counts."""
    if len({name for _, name, _ in entries}) == len(entries):
        return []
    counted = Counter(name for _, name, _ in entries)
    names = (name.decode("utf-8", "backslashreplace") for name, n in counted.items() if n > 1)
    return [
        (printable(name), "appears twice in its folder", "remove one of them") for name in names
    ]


def colliding(names: list[str]) -> list[tuple[str, str, str]]:
    """Refusals for names that differ only by case: one file system cannot hold both."""
    seen: dict[str, str] = {}
    found = []
    for name in names:
        first = seen.setdefault(name.casefold(), name)
        if first != name:
            found.append((name, f"differs from {first} by case alone", "rename one of them"))
    return found


def refused_entry(path: str, mode: bytes, name: bytes) -> FileRefused:
    """The refusal of an entry inside a layer."""
    text = printable(name.decode("utf-8", "replace"))
    if mode == SUBMODULE:
        return FileRefused(f"{path} holds the submodule {text}", "copy its files instead")
    message, hint = OF_NO_KIND
    return FileRefused(f"{path} holds {text}, which {message}", hint)


def too_much(what: str) -> SourceError:
    """The SourceError (limit) for a repository that has too many of something."""
    return SourceError(
        f"the repository has {what}",
        kind="limit",
        hint="narrow source.path, or raise the limit in the config",
    )
