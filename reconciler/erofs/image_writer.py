"""Writes one erofs image front to back: content as it comes, each inode when its content is known.

The same entries in the same order give the same bytes. Little is held in memory: a megabyte of content,
and the names of folders that are not finished.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from reconciler.erofs import structures
from reconciler.erofs.lz4 import Lz4, Piece
from reconciler.erofs.structures import BLOCK, SLOT, Extent, Named
from reconciler.erofs.written_file import WrittenFile

SEGMENT = 1 << 20
"""Content that is compressed together: no block of LZ4 reaches further, which bounds what a read unpacks."""
MOST_INLINE = 2048
"""Longer content has blocks of its own."""
FOLDER_MODE = stat.S_IFDIR | 0o755
FILE_MODE, PROGRAM_MODE = stat.S_IFREG | 0o644, stat.S_IFREG | 0o755
LINK_MODE = stat.S_IFLNK | 0o777
ROOT_AT = structures.SUPERBLOCK_AT + structures.SUPERBLOCK_SIZE


@dataclass(slots=True)
class _Folder:
    name: bytes
    inode: int
    number: int
    entries: dict[bytes, Named] = field(default_factory=dict)
    folders: int = 0


class ImageWriter:
    """Entries go into the folder that was entered last. All belong to root and have no time.

    Names are the caller's to check; one that is in its folder twice raises FileExistsError, at no other
    time anything but OSError is raised.
    """

    def __init__(self, file: int, uuid: bytes, lz4: Lz4 | None) -> None:
        """`file`: a new one, open for writing, which `finish` closes. Without `lz4` nothing is compressed."""
        self._out = WrittenFile(file)
        self._uuid = uuid
        self._lz4 = lz4
        self._inodes = 0
        self._out.append(bytes(BLOCK))
        self._slots = range(ROOT_AT, BLOCK)
        """What is left of the block that takes inodes."""
        self._open = [_Folder(b"", self._room(SLOT) // SLOT, self._count())]

    def enter(self, name: bytes) -> None:
        """Make a folder; what follows goes into it."""
        made = _Folder(name, self._room(SLOT) // SLOT, self._count())
        self._open[-1].folders += 1
        self._name(name, made.inode, structures.FOLDER_TYPE)
        self._open.append(made)

    def leave(self) -> None:
        """The folder that was entered last is complete."""
        done = self._open.pop()
        parent = self._open[-1] if self._open else done
        content = structures.folder(list(done.entries.values()), done.inode, parent.inode)
        where = self._blocks((content,))
        links = 2 + done.folders
        made = structures.inode(
            structures.PLAIN, FOLDER_MODE, links, len(content), where, done.number
        )
        self._out.patch(done.inode * SLOT, made)

    def link(self, name: bytes, target: bytes) -> None:
        self._add(name, LINK_MODE, structures.LINK_TYPE, len(target), iter((target,)))

    def file(self, name: bytes, content: bytes, *, program: bool) -> None:
        """A regular file."""
        starts = range(0, len(content), SEGMENT)
        pieces = (content[at : at + SEGMENT] for at in starts)
        self.write_file(name, len(content), pieces, program=program)

    def write_file(
        self, name: bytes, size: int, content: Iterable[bytes], *, program: bool
    ) -> None:
        """A regular file; `content` comes in pieces of SEGMENT, of which only the last may be shorter."""
        mode = PROGRAM_MODE if program else FILE_MODE
        self._add(name, mode, structures.REGULAR_TYPE, size, iter(content))

    def finish(self) -> None:
        """The root is complete, and so is the image."""
        self.leave()
        blocks = self._out.size // BLOCK
        self._out.patch(
            structures.SUPERBLOCK_AT,
            structures.superblock(
                ROOT_AT // SLOT, self._inodes, blocks, self._uuid, compressed=self._lz4 is not None
            ),
        )
        self._out.close()

    def _add(self, name: bytes, mode: int, kind: int, size: int, content: Iterator[bytes]) -> None:
        number = self._count()
        if size <= MOST_INLINE:
            made = structures.inode(structures.INLINE, mode, 1, size, 0, number) + b"".join(content)
        elif self._lz4 is None or size <= BLOCK or not stat.S_ISREG(mode):
            made = self._stored(mode, size, content, number)
        else:
            made = self._compressed(self._lz4, mode, size, content, number)
        at = self._room(len(made))
        self._out.patch(at, made)
        self._name(name, at // SLOT, kind)

    def _stored(self, mode: int, size: int, content: Iterable[bytes], number: int) -> bytes:
        return structures.inode(structures.PLAIN, mode, 1, size, self._blocks(content), number)

    def _compressed(
        self, lz4: Lz4, mode: int, size: int, content: Iterator[bytes], number: int
    ) -> bytes:
        """A file that is no smaller by its first segment is stored as it is: that is read faster."""
        first = next(content)
        pieces = list(lz4.pieces(first))
        if len(pieces) * BLOCK >= len(first):
            return self._stored(mode, size, _chain(first, content), number)
        extents: list[Extent] = []
        start = 0
        while pieces:
            for piece in pieces:
                block = self._out.size // BLOCK
                extents.append(Extent(start + piece.at, block, piece.lz4))
                self._append(piece)
            start += SEGMENT
            segment = next(content, b"")
            pieces = list(lz4.pieces(segment))
        head = structures.inode(structures.COMPRESSED, mode, 1, size, len(extents), number)
        return head + structures.content_map(extents, size)

    def _append(self, piece: Piece) -> None:
        self._out.append(piece.block)
        self._out.align(BLOCK)

    def _blocks(self, content: Iterable[bytes]) -> int:
        """Append content, and fill its last block up; returns the first block."""
        where = self._out.size // BLOCK
        for piece in content:
            self._out.append(piece)
        self._out.align(BLOCK)
        return where

    def _room(self, size: int) -> int:
        """Where an inode of this size goes: into the open block, or into blocks of its own."""
        if size > len(self._slots):
            at = self._out.size
            self._out.append(bytes(-(-size // BLOCK) * BLOCK))
            if size > BLOCK:
                return at
            self._slots = range(at, at + BLOCK)
        at = self._slots[0]
        self._slots = self._slots[-(-size // SLOT) * SLOT :]
        return at

    def _name(self, name: bytes, inode: int, kind: int) -> None:
        entries = self._open[-1].entries
        if name in entries:
            raise FileExistsError(name)
        entries[name] = Named(name, inode, kind)

    def _count(self) -> int:
        self._inodes += 1
        return self._inodes


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def create(path: os.PathLike[str], uuid: bytes, lz4: Lz4 | None) -> ImageWriter:
    """Begin an image in a file that does not exist yet. Raises OSError."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return ImageWriter(os.open(path, flags, 0o644), uuid, lz4)
