"""What changed in a folder since it was looked at, as a tar: the same changes give the same bytes.

Unchanged is what has the inode and the change time that it had: the kernel sets that time, and nothing
inside can set it back. No file is read to find out, so a large base costs as little as a small one.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

EPOCH = 1_700_000_000
"""Time of all entries, and of what is made inside: any fixed one will do."""
WHITEOUT = ".wh."
MOUNTED = ("dev", "proc", "sys", "run", "tmp")
"""Folders whose content is the kernel's, or lasts until the guest's end."""
XATTRS = ("security.capability",)


@dataclass(frozen=True, slots=True)
class EntryMark:
    """By what an entry is known to be unchanged, and for a folder what an upper layer must repeat."""

    inode: int
    changed_ns: int
    mode: int
    owner: tuple[int, int]

    @classmethod
    def of(cls, found: os.stat_result) -> EntryMark:
        return cls(found.st_ino, found.st_ctime_ns, found.st_mode, (found.st_uid, found.st_gid))

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)

    def same(self, other: EntryMark) -> bool:
        """A folder's change time also changes with its entries, which are looked at by themselves."""
        if self.is_folder and other.is_folder:
            return (self.mode, self.owner) == (other.mode, other.owner)
        return self == other


Marks = Mapping[str, EntryMark]
"""By path relative to the root; the root itself is `.`."""


def look(root: Path) -> dict[str, EntryMark]:
    """Everything below a folder that is not mounted there."""
    marks = {".": EntryMark.of(root.lstat())}
    marks.update(_below(root, ""))
    return marks


def _below(folder: Path, prefix: str) -> Iterator[tuple[str, EntryMark]]:
    for entry in os.scandir(folder):
        name = f"{prefix}{entry.name}"
        found = entry.stat(follow_symlinks=False)
        if stat.S_ISSOCK(found.st_mode):
            continue
        yield name, EntryMark.of(found)
        if stat.S_ISDIR(found.st_mode) and name not in MOUNTED:
            yield from _below(Path(entry.path), f"{name}/")


def write_difference(root: Path, before: Marks, out: BinaryIO) -> None:
    """Write what is new or changed since `before`, and a whiteout for what is gone."""
    now = look(root)
    changed = {
        name for name, mark in now.items() if name not in before or not mark.same(before[name])
    }
    gone = {name for name in before.keys() - now.keys() if _parent(name) in now}
    # What was a folder and is none any more: the new entry hides all of it.
    gone = {name for name in gone if now[_parent(name)].is_folder}
    for name in [*changed, *gone]:
        while name != ".":
            name = _parent(name)  # noqa: PLW2901 - upwards
            changed.add(name)
    links: dict[int, str] = {}
    whiteouts = {_whiteout(name) for name in gone}
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT, bufsize=1 << 20) as tar:
        for name in sorted(changed | whiteouts):
            if name in whiteouts:
                tar.addfile(_whiteout_entry(name))
            else:
                _add(tar, root, name, links)


def _parent(name: str) -> str:
    return name.rpartition("/")[0] or "."


def _whiteout(name: str) -> str:
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{WHITEOUT}{last}"


def _whiteout_entry(name: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mtime = EPOCH
    return entry


def _add(tar: tarfile.TarFile, root: Path, name: str, links: dict[int, str]) -> None:
    path = root / name
    found = path.lstat()
    entry = tarfile.TarInfo(name)
    entry.mode = stat.S_IMODE(found.st_mode)
    entry.uid, entry.gid = found.st_uid, found.st_gid
    entry.mtime = EPOCH
    if stat.S_ISREG(found.st_mode) and found.st_nlink > 1 and found.st_ino in links:
        entry.type, entry.linkname = tarfile.LNKTYPE, links[found.st_ino]
        tar.addfile(entry)
        return
    if stat.S_ISDIR(found.st_mode):
        entry.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(found.st_mode):
        entry.type, entry.linkname = tarfile.SYMTYPE, str(path.readlink())
    elif stat.S_ISFIFO(found.st_mode):
        entry.type = tarfile.FIFOTYPE
    elif not stat.S_ISREG(found.st_mode):
        return  # a device: the guest's kernel makes its own
    _add_attributes(entry, path)
    if not entry.isreg():
        tar.addfile(entry)
        return
    links[found.st_ino] = name
    entry.size = found.st_size
    with path.open("rb") as content:
        tar.addfile(entry, content)


def _add_attributes(entry: tarfile.TarInfo, path: Path) -> None:
    """File capabilities: ping and the like would lose what they need."""
    kept = {}
    for name in XATTRS:
        try:
            value = os.getxattr(path, name, follow_symlinks=False)
        except OSError:
            continue  # none, or a file system without any
        # Python keeps the bytes of a pax header by this error handler.
        kept[f"SCHILY.xattr.{name}"] = value.decode("utf-8", "surrogateescape")
    entry.pax_headers = kept
