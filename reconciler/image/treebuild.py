"""Builder of `tree` layers: a child process that turns one git tree into one store image, and ends.

The daemon keeps one of these waiting, its imports done and its limits set, because a fresh
interpreter with pygit2 costs 110 ms and a push may cost 200 ms in all. It is a process and not a
thread, so that what a hostile repository does to libgit2 or mkfs ends with the child; it serves one
request, so that nothing of one build is left for the next. It reads objects by id, never a checkout,
and becomes mkfs by exec: one process to limit and to kill.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pygit2
from pygit2.enums import FileMode, ObjectType

from reconciler.image.mkfs import mkfs_argv

BAD_INPUT = 65
"""Exit status: the tree itself cannot be built; the output is the reason. EX_DATAERR."""

FOLDER = "folder"
"""Asked for in place of a format: the tree as files, and no image."""

CLONE_NEWIPC, CLONE_NEWNET = 0x08000000, 0x40000000
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38

CPU_SECONDS = 300
MEMORY_BYTES = 4 << 30  # address space; libgit2 maps whole packs
OPEN_FILES = 256
MOST_TARGET_BYTES = 4095  # PATH_MAX without its NUL

BAD_NAME = re.compile(rb"[\x00-\x1f\x7f/]|^(\.|\.\.|)$|^\.git *$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a layer may be before it is staged."""

    content_bytes: int = 2 << 30
    entries: int = 100_000
    depth: int = 64
    name_bytes: int = 255


class BadTreeError(Exception):
    """The tree cannot become a layer; the message names the path."""


class Stager:
    """Writes a tree below an open folder, entry by entry, following nothing that it wrote."""

    def __init__(self, repository: pygit2.Repository, limits: Limits) -> None:
        self._repository = repository
        self._limits = limits
        self._entries = 0
        self.content_bytes = 0

    def stage(self, tree: pygit2.Tree, folder: int, path: str = "", depth: int = 1) -> None:
        """Write the entries of `tree` into the folder that the descriptor `folder` is open on."""
        if depth > self._limits.depth:
            raise BadTreeError(f"{path}: folders are nested more than {self._limits.depth} deep")
        for entry in tree:
            here = f"{path}{self._name(entry.raw_name, path)}"
            self._entries += 1
            if self._entries > self._limits.entries:
                raise BadTreeError(f"{here}: more than {self._limits.entries} entries")
            try:
                self._write(entry, folder, here, depth)
            except FileExistsError as error:
                raise BadTreeError(f"{here}: is in its folder twice") from error

    def _write(self, entry: pygit2.Object, folder: int, here: str, depth: int) -> None:
        name = os.fsencode(entry.raw_name or b"")
        match entry.filemode:
            case FileMode.TREE:
                os.mkdir(name, 0o755, dir_fd=folder)
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
                try:
                    self.stage(entry.peel(pygit2.Tree), inner, f"{here}/", depth + 1)
                finally:
                    os.close(inner)
            case FileMode.BLOB | FileMode.BLOB_EXECUTABLE:
                mode = 0o755 if entry.filemode == FileMode.BLOB_EXECUTABLE else 0o644
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
                with open(os.open(name, flags, mode, dir_fd=folder), "wb") as file:  # noqa: PTH123
                    file.write(self._blob(entry, here))
            case FileMode.LINK:
                target = self._blob(entry, here)
                if not target or len(target) > MOST_TARGET_BYTES or b"\0" in target:
                    raise BadTreeError(f"{here}: a symlink to nowhere")
                os.symlink(target, name, dir_fd=folder)
            case FileMode.COMMIT:
                raise BadTreeError(f"{here}: a submodule; put its files into the folder instead")
            case _:
                raise BadTreeError(f"{here}: has the odd mode {entry.filemode:o}")

    def _blob(self, entry: pygit2.Object, here: str) -> bytes:
        kind, size = self._repository.odb.read_header(entry.id)
        if kind != ObjectType.BLOB:
            raise BadTreeError(f"{here}: is listed as a file and is none")
        self.content_bytes += size
        if self.content_bytes > self._limits.content_bytes:
            most = self._limits.content_bytes >> 20
            raise BadTreeError(f"{here}: the folder holds more than {most} MiB")
        return bytes(entry.read_raw())

    def _name(self, raw: bytes | None, path: str) -> str:
        raw = raw or b""
        shown = raw.decode(errors="backslashreplace")
        if BAD_NAME.search(raw) or len(raw) > self._limits.name_bytes:
            raise BadTreeError(f"{path}{shown!r}: not a name that a layer may hold")
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise BadTreeError(f"{path}{shown}: the name is not UTF-8") from error


def stage_tree(repository: str, tree: str, folder: Path, limits: Limits) -> int:
    """Write a tree of a bare repository into a new folder; returns the bytes of its files."""
    pygit2.settings.owner_validation = False  # the daemon may run as another user than its state
    folder.mkdir(mode=0o755)
    bare = pygit2.Repository(repository, pygit2.enums.RepositoryOpenFlag.BARE)
    found = bare[tree]
    if not isinstance(found, pygit2.Tree):
        raise BadTreeError(f"{tree}: is not a folder")
    stager = Stager(bare, limits)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        stager.stage(found, descriptor)
    finally:
        os.close(descriptor)
    return stager.content_bytes


def age(folder: Path) -> None:
    """Give everything the same time: a flake is told the newest of its files."""
    for place, _, names in os.walk(folder):
        for path in (*(Path(place, name) for name in names), Path(place)):
            os.utime(path, (1, 1), follow_symlinks=False)


def confine() -> None:
    """Give up what a builder does not need. What this host does not let us give up, we keep."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.unshare(CLONE_NEWNET | CLONE_NEWIPC)  # root only; a builder needs no network
    os.umask(0o022)
    image_bytes = 2 * Limits().content_bytes
    for kind, most in (
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, image_bytes),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (least, least))


def serve(request: dict[str, Any]) -> int:
    """Stage the tree that was asked for, and become mkfs where an image is wanted of it."""
    folder = Path(request["folder"])
    content = stage_tree(
        request["repository"], request["tree"], folder, Limits(**request["limits"])
    )
    if request["format"] != FOLDER:
        argv = mkfs_argv(request["format"], request["image"], str(folder), content)
        os.execvp(argv[0], argv)  # noqa: S606  # never a shell
    age(folder)
    return 0


def main() -> int:
    """Wait for one request on standard input: an end without one is an end of the daemon."""
    confine()
    line = sys.stdin.buffer.readline()
    if not line:
        return 0
    try:
        return serve(json.loads(line))
    except BadTreeError as error:
        sys.stdout.write(str(error))
        return BAD_INPUT
    except (OSError, pygit2.GitError, KeyError, MemoryError) as error:
        sys.stdout.write(f"{type(error).__name__}: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
