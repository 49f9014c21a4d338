"""Where a tree of git goes: into a folder, or into an image of erofs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from reconciler.erofs.image_writer import ImageWriter, create
from reconciler.erofs.lz4 import Lz4
from reconciler.erofs.piped_writer import PipedWriter
from reconciler.erofs.recipe import ErofsRecipe


class TreeTarget(Protocol):
    """Takes the entries of a tree; each goes into the folder that was entered last. Raises OSError."""

    def enter(self, name: bytes) -> None: ...

    def leave(self) -> None: ...

    def link(self, name: bytes, target: bytes) -> None: ...

    def file(self, name: bytes, content: bytes, *, program: bool) -> None: ...

    def finish(self) -> None:
        """All of the tree was given."""
        ...


class FolderTarget:
    """Files below a new folder; nothing that was written is followed."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o755)
        self._open = [os.open(folder, os.O_RDONLY | os.O_DIRECTORY)]

    def enter(self, name: bytes) -> None:
        os.mkdir(name, 0o755, dir_fd=self._open[-1])
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        self._open.append(os.open(name, flags, dir_fd=self._open[-1]))

    def leave(self) -> None:
        os.close(self._open.pop())

    def link(self, name: bytes, target: bytes) -> None:
        os.symlink(target, name, dir_fd=self._open[-1])

    def file(self, name: bytes, content: bytes, *, program: bool) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        permissions = 0o755 if program else 0o644
        with open(os.open(name, flags, permissions, dir_fd=self._open[-1]), "wb") as file:  # noqa: PTH123
            file.write(content)

    def finish(self) -> None:
        while self._open:
            self.leave()


class ImageTarget:
    """An image that does not exist yet. A large one is packed by a process of its own."""

    def __init__(self, image: Path, recipe: ErofsRecipe, *, large: bool) -> None:
        """Raises OSError, and Lz4Missing for a large one."""
        uuid = bytes.fromhex(recipe.uuid.replace("-", ""))
        lz4 = Lz4() if large else None

        def begin() -> ImageWriter:
            return create(image, uuid, lz4)

        self._writer = PipedWriter(begin) if large else begin()
        self._without = recipe.without.encode()
        self.enter, self.leave = self._writer.enter, self._writer.leave
        self.link, self.finish = self._writer.link, self._writer.finish

    def file(self, name: bytes, content: bytes, *, program: bool) -> None:
        if content or name != self._without:
            self._writer.file(name, content, program=program)
