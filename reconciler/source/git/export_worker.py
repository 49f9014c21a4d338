"""The child that writes one git tree as files, and ends: `python -m reconciler.source.git.export_worker`.

It is a process and not a thread, so that what a hostile repository does to libgit2 ends with the child.
It reads objects by id from the mirror, never a checkout. Its request is a JSON line on standard input.
"""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pygit2
from pygit2.enums import ObjectType

from reconciler.children.confinement import Bounds, confine
from reconciler.git_objects import (
    FILE,
    LINK,
    PROGRAM,
    SUBMODULE,
    TREE,
    Entry,
    MalformedObject,
    entries_of,
)

BAD_INPUT = 65
"""Exit status: the tree cannot be written as files; the output is the reason. EX_DATAERR."""
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
MOST_POINTER_BYTES = 1024
"""Its specification says that a pointer is smaller."""
MOST_TREE_BYTES = 64 << 20
MOST_TARGET_BYTES = 4095  # PATH_MAX without its NUL

BAD_NAME = re.compile(rb"[\x00-\x1f\x7f/]|^(\.|\.\.|)$|^\.git *$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TreeLimits:
    """How large a tree may be."""

    content_bytes: int = 2 << 30
    entries: int = 100_000
    depth: int = 64
    name_bytes: int = 255


class BadTreeError(Exception):
    """The tree cannot become files; the message names the path."""


class Stager:
    """Writes a tree below an open folder, entry by entry, following nothing that it wrote."""

    def __init__(self, repository: pygit2.Repository, limits: TreeLimits) -> None:
        self._repository = repository
        self._limits = limits
        self._entries = 0
        self.content_bytes = 0

    def stage(self, tree: bytes, folder: int, path: str = "", depth: int = 1) -> None:
        """Write the entries of the tree with this id into the folder that `folder` is open on."""
        if depth > self._limits.depth:
            raise BadTreeError(f"{path}: folders are nested more than {self._limits.depth} deep")
        for entry in self._entries_of(tree, path):
            here = f"{path}{self._name(entry[1], path)}"
            self._entries += 1
            if self._entries > self._limits.entries:
                raise BadTreeError(f"{here}: more than {self._limits.entries} entries")
            try:
                self._write(entry, folder, here, depth)
            except FileExistsError as error:
                raise BadTreeError(f"{here}: is in its folder twice") from error

    def _write(self, entry: Entry, folder: int, here: str, depth: int) -> None:
        mode, name, oid = entry
        if mode == TREE:
            os.mkdir(name, 0o755, dir_fd=folder)
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            try:
                self.stage(oid, inner, f"{here}/", depth + 1)
            finally:
                os.close(inner)
        elif mode in (FILE, PROGRAM):
            content = self._blob(oid, here)
            if content.startswith(LFS_POINTER) and len(content) < MOST_POINTER_BYTES:
                raise BadTreeError(f"{here}: a pointer of Git LFS; commit the file itself")
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            permissions = 0o755 if mode == PROGRAM else 0o644
            with open(os.open(name, flags, permissions, dir_fd=folder), "wb") as file:  # noqa: PTH123
                file.write(content)
        elif mode == LINK:
            target = self._blob(oid, here)
            if not target or len(target) > MOST_TARGET_BYTES or b"\0" in target:
                raise BadTreeError(f"{here}: a symlink to nowhere")
            os.symlink(target, name, dir_fd=folder)
        elif mode == SUBMODULE:
            raise BadTreeError(f"{here}: a submodule; put its files into the folder instead")
        else:
            raise BadTreeError(f"{here}: has a mode that is none of git's")

    def _entries_of(self, tree: bytes, path: str) -> list[Entry]:
        """As git reads them: libgit2 takes some modes for others."""
        kind, size = self._repository.odb.read_header(pygit2.Oid(raw=tree))
        if kind != ObjectType.TREE or size > MOST_TREE_BYTES:
            raise BadTreeError(f"{path or '.'}: is listed as a folder and is none")
        try:
            return entries_of(self._repository.read(pygit2.Oid(raw=tree))[1])
        except MalformedObject as error:
            raise BadTreeError(f"{path or '.'}: a folder that git itself could not read") from error

    def _blob(self, oid: bytes, here: str) -> bytes:
        kind, size = self._repository.odb.read_header(pygit2.Oid(raw=oid))
        if kind != ObjectType.BLOB:
            raise BadTreeError(f"{here}: is listed as a file and is none")
        self.content_bytes += size
        if self.content_bytes > self._limits.content_bytes:
            most = self._limits.content_bytes >> 20
            raise BadTreeError(f"{here}: the folder holds more than {most} MiB")
        return self._repository.read(pygit2.Oid(raw=oid))[1]

    def _name(self, raw: bytes, path: str) -> str:
        shown = raw.decode(errors="backslashreplace")
        if BAD_NAME.search(raw) or len(raw) > self._limits.name_bytes:
            raise BadTreeError(f"{path}{shown!r}: not a name that a layer may hold")
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise BadTreeError(f"{path}{shown}: the name is not UTF-8") from error


def stage_tree(repository: str, tree: str, folder: Path, limits: TreeLimits) -> int:
    """Write a tree of a bare repository into a new folder; returns the bytes of its files."""
    pygit2.settings.owner_validation = False  # the daemon may run as another user than its state
    folder.mkdir(mode=0o755)
    bare = pygit2.Repository(repository, pygit2.enums.RepositoryOpenFlag.BARE)
    stager = Stager(bare, limits)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        stager.stage(bytes.fromhex(tree), descriptor)
    finally:
        os.close(descriptor)
    return stager.content_bytes


def export(request: dict[str, Any]) -> int:
    """Write the tree that is asked for; returns the bytes of its files."""
    return stage_tree(
        request["repository"],
        request["tree"],
        Path(request["folder"]),
        TreeLimits(**request["limits"]),
    )


def main() -> int:
    """Wait for one request: an end without one is an end of the daemon."""
    confine(Bounds())
    line = sys.stdin.buffer.readline()
    if not line:
        return 0
    try:
        sys.stdout.write(str(export(json.loads(line))))
    except BadTreeError as error:
        sys.stdout.write(str(error))
        return BAD_INPUT
    except Exception as error:  # noqa: BLE001 - the parent tells it, and tries again
        sys.stdout.write(f"{type(error).__name__}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # taking libgit2 and the interpreter down would cost a push 20 ms
