"""Judges a folder that a program wrote, before an image is made of it: files, folders and links, in bounds.

What is refused is what an image of it would not keep, or would keep in silence for a guest: owners are
root's in the image, so a setuid bit would be root's too.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from reconciler.errors import BuildFailed

MOST_ENTRIES = 200_000
MOST_DEPTH = 64
MOST_BYTES = 4 << 30
KINDS = {
    stat.S_IFSOCK: "a socket", stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
}  # fmt: skip
READ, ENTER = stat.S_IRUSR, stat.S_IRUSR | stat.S_IXUSR


def check_tree(folder: Path) -> int:
    """The bytes of all files. Blocks. Raises BuildFailed with the path at fault."""
    if folder.is_symlink() or not folder.is_dir():
        raise BuildFailed("$OUT is no folder any more", hint="let the program write below $OUT")
    content = 0
    for entries, (path, found) in enumerate(_entries(os.fspath(folder), "", 1), 1):
        content += found.st_size if stat.S_ISREG(found.st_mode) else 0
        if entries > MOST_ENTRIES:
            raise BuildFailed(f"it wrote more than {MOST_ENTRIES} entries", hint="split the layer")
        if content > MOST_BYTES:
            raise BuildFailed(f"it wrote more than {MOST_BYTES >> 30} GiB", hint="split the layer")
        if fault := _fault(found.st_mode):
            raise BuildFailed(f"{_shown(path)} {fault[0]}", hint=fault[1])
    return content


def _entries(folder: str, inside: str, depth: int) -> Iterator[tuple[str, os.stat_result]]:
    """Each path below a folder, with what it is; no link is followed, and no folder read before it was judged."""
    if depth > MOST_DEPTH:
        raise BuildFailed(
            f"{_shown(inside)}: more than {MOST_DEPTH} folders in folders", hint="flatten it"
        )
    with os.scandir(folder) as found:
        below = sorted(found, key=lambda entry: entry.name)
    for entry in below:
        path = f"{inside}{entry.name}"
        yield path, entry.stat(follow_symlinks=False)
        if entry.is_dir(follow_symlinks=False):
            yield from _entries(entry.path, f"{path}/", depth + 1)


def _shown(path: str) -> str:
    """A path as text that can be stored and printed, whatever bytes the program gave it."""
    return ascii(path)[1:-1]


def _fault(mode: int) -> tuple[str, str] | None:
    kind = stat.S_IFMT(mode)
    if kind in KINDS:
        return f"is {KINDS[kind]}", "let the guest make it: a layer has files, folders and links"
    if stat.S_ISLNK(mode):
        return None
    if mode & (stat.S_ISUID | stat.S_ISGID):
        return (
            "is setuid or setgid, and would be root's in the guest",
            "leave the bit out; `owners` of a tree can give it",
        )
    wanted = ENTER if stat.S_ISDIR(mode) else READ
    if mode & wanted != wanted:
        return "may not be read by its own owner", "give it a mode that its owner can read"
    return None
