"""The child that writes one git tree as files or as an image, and ends: `python -m reconciler.source.git.export_worker`.

It is a process and not a thread, so that what a hostile repository does to libgit2 ends with the child.
It reads objects by id from the mirror, never a checkout. Its request is a JSON line on standard input.
"""

from __future__ import annotations

import errno
import hashlib
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
from reconciler.erofs.lz4 import Lz4Missing
from reconciler.erofs.recipe import ErofsRecipe
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
from reconciler.source.git.libgit2_limits import CACHED, WINDOW
from reconciler.source.git.tree_targets import FolderTarget, ImageTarget, TreeTarget

BAD_INPUT = 65
"""Exit status: the tree cannot be written as files; the output is the reason. EX_DATAERR."""
NO_LZ4 = 69
"""Exit status: this host has no liblz4. EX_UNAVAILABLE."""
WITH_CONTENT = frozenset((FILE, PROGRAM))
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
    """Gives a tree to a target, entry by entry."""

    def __init__(
        self, repository: pygit2.Repository, limits: TreeLimits, target: TreeTarget
    ) -> None:
        self._repository = repository
        self._limits = limits
        self._target = target
        self._entries = 0
        self.content_bytes = 0

    def stage(self, tree: bytes, path: str = "", depth: int = 1) -> None:
        """Give all of the tree with this id."""
        if depth > self._limits.depth:
            raise BadTreeError(f"{path}: folders are nested more than {self._limits.depth} deep")
        names = set()
        for entry in entries_in(self._repository, tree, path):
            here = f"{path}{self._name(entry[1], path)}"
            self._entries += 1
            if self._entries > self._limits.entries:
                raise BadTreeError(f"{here}: more than {self._limits.entries} entries")
            if entry[1] in names:
                raise BadTreeError(f"{here}: is in its folder twice")
            names.add(entry[1])
            self._write(entry, here, depth)

    def _write(self, entry: Entry, here: str, depth: int) -> None:
        mode, name, oid = entry
        if mode == TREE:
            self._target.enter(name)
            self.stage(oid, f"{here}/", depth + 1)
            self._target.leave()
        elif mode in (FILE, PROGRAM):
            content = self._blob(oid, here)
            if content.startswith(LFS_POINTER) and len(content) < MOST_POINTER_BYTES:
                raise BadTreeError(f"{here}: a pointer of Git LFS; commit the file itself")
            self._target.file(name, content, program=mode == PROGRAM)
        elif mode == LINK:
            target = self._blob(oid, here)
            if not target or len(target) > MOST_TARGET_BYTES or b"\0" in target:
                raise BadTreeError(f"{here}: a symlink to nowhere")
            self._target.link(name, target)
        elif mode == SUBMODULE:
            raise BadTreeError(f"{here}: a submodule; put its files into the folder instead")
        else:
            raise BadTreeError(f"{here}: has a mode that is none of git's")

    def _blob(self, oid: bytes, here: str) -> bytes:
        kind, size = self._repository.odb.read_header(pygit2.Oid(raw=oid))
        if kind != ObjectType.BLOB:
            raise BadTreeError(f"{here}: is listed as a file and is none")
        self.content_bytes += size
        if self.content_bytes > self._limits.content_bytes:
            most = self._limits.content_bytes >> 20
            raise BadTreeError(f"{here}: the folder holds more than {most} MiB")
        return read_object(self._repository, oid, b"blob")

    def _name(self, raw: bytes, path: str) -> str:
        shown = raw.decode(errors="backslashreplace")
        if BAD_NAME.search(raw) or len(raw) > self._limits.name_bytes:
            raise BadTreeError(f"{path}{shown!r}: not a name that a layer may hold")
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise BadTreeError(f"{path}{shown}: the name is not UTF-8") from error


def entries_in(repository: pygit2.Repository, tree: bytes, path: str) -> list[Entry]:
    """As git reads them: libgit2 takes some modes for others. Raises BadTreeError."""
    kind, size = repository.odb.read_header(pygit2.Oid(raw=tree))
    if kind != ObjectType.TREE or size > MOST_TREE_BYTES:
        raise BadTreeError(f"{path or '.'}: is listed as a folder and is none")
    try:
        return entries_of(read_object(repository, tree, b"tree"))
    except MalformedObject as error:
        raise BadTreeError(f"{path or '.'}: a folder that git itself could not read") from error


def read_object(repository: pygit2.Repository, oid: bytes, kind: bytes) -> bytes:
    """An object's bytes, which have its hash. Raises OSError if they have not: the mirror is damaged."""
    content: bytes = repository.read(pygit2.Oid(raw=oid))[1]
    digest = hashlib.sha1(b"%b %d\0" % (kind, len(content)), usedforsecurity=False)
    digest.update(content)
    if digest.digest() != oid:
        raise OSError(errno.EBADMSG, f"object {oid.hex()} of the mirror is damaged")
    return content


def opened(path: str) -> pygit2.Repository:
    """A bare repository, of which `read_object` hashes each object: libgit2 would take three times as long.

    What libgit2's own hash finds beyond that, an attack on SHA-1, it found when the object was fetched.
    """
    pygit2.settings.owner_validation = False  # the daemon may run as another user than its state
    pygit2.settings.mwindow_size, pygit2.settings.mwindow_mapped_limit = WINDOW, 2 * WINDOW
    pygit2.settings.cache_max_size(CACHED)
    pygit2.settings.enable_strict_hash_verification(False)  # noqa: FBT003 - the library's own form
    return pygit2.Repository(path, pygit2.enums.RepositoryOpenFlag.BARE)


def reaches(repository: pygit2.Repository, tree: bytes, most: int, limits: TreeLimits) -> bool:
    """Whether the files of a tree have at least so many bytes; False for a tree beyond its limits."""
    folders, entries, size = [(tree, 1)], 0, 0
    while folders:
        folder, depth = folders.pop()
        for mode, _, oid in entries_in(repository, folder, ""):
            entries += 1
            if entries > limits.entries or depth > limits.depth:
                return False
            if mode == TREE:
                folders.append((oid, depth + 1))
            elif mode in WITH_CONTENT:
                size += repository.odb.read_header(pygit2.Oid(raw=oid))[1]
                if size >= most:
                    return True
    return False


def stage_tree(repository: str, tree: str, folder: Path, limits: TreeLimits) -> int:
    """Write a tree of a bare repository into a new folder; returns the bytes of its files."""
    stager = Stager(opened(repository), limits, target := FolderTarget(folder))
    try:
        stager.stage(bytes.fromhex(tree))
    finally:
        target.finish()
    return stager.content_bytes


def image_of_tree(
    repository: str, tree: str, image: Path, limits: TreeLimits, recipe: ErofsRecipe
) -> int:
    """Write a tree of a bare repository as an image of erofs; returns the bytes of its files."""
    bare, root = opened(repository), bytes.fromhex(tree)
    large = reaches(bare, root, recipe.compress_from_bytes, limits)
    stager = Stager(bare, limits, target := ImageTarget(image, recipe, large=large))
    stager.stage(root)
    target.finish()
    return stager.content_bytes


def export(request: dict[str, Any]) -> int:
    """Write the tree that is asked for; returns the bytes of its files."""
    repository, tree = request["repository"], request["tree"]
    limits, target = TreeLimits(**request["limits"]), Path(request["target"])
    if (recipe := request["recipe"]) is None:
        return stage_tree(repository, tree, target, limits)
    return image_of_tree(repository, tree, target, limits, ErofsRecipe(**recipe))


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
    except Lz4Missing as error:
        sys.stdout.write(str(error))
        return NO_LZ4
    except Exception as error:  # noqa: BLE001 - the parent tells it, and tries again
        sys.stdout.write(f"{type(error).__name__}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # taking libgit2 and the interpreter down would cost a push 20 ms
