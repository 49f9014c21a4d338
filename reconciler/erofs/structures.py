"""The structures of an erofs image as bytes: superblock, inodes, folders, maps of compressed files. Pure.

Only what Linux 5.4 can read, and what needs no second look at the content: 4 KiB blocks, inodes of 32
bytes, LZ4 by blocks. Names follow `fs/erofs/erofs_fs.h` of Linux.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

BLOCK = 4096
SLOT = 32
"""An inode's number is its place in the image by this."""
SUPERBLOCK_AT, SUPERBLOCK_SIZE = 1024, 128
MAGIC = 0xE0F5E1E2
BLOCK_BITS = 12
WITH_MTIME = 2
"""The time of the superblock is that of all files."""
ZERO_PADDING = 1
"""Compressed blocks end at the end of their block."""
PLAIN, COMPRESSED, INLINE = 0, 1, 2
"""Where content lies: in blocks; in blocks of LZ4, by a map behind the inode; behind the inode itself."""
REGULAR_TYPE, FOLDER_TYPE, LINK_TYPE = 1, 2, 7
MAP_HEADER = bytes(16)
"""Of a map: all bits of it name the defaults."""
MOST_LINKS = 0xFFFF
STORED_CLUSTER, LZ4_CLUSTER, LATER_CLUSTER = 0, 1, 2
_SUPERBLOCK = struct.Struct("<IIIBBHQQIIII16s16sIHHHB37x")
_INODE = struct.Struct("<HHHHIIIIHHI")
_ENTRY = struct.Struct("<QHBB")
_HEAD = struct.Struct("<HHI")
_LATER = struct.Struct("<HHHH")


@dataclass(frozen=True, slots=True)
class Named:
    """An entry of a folder."""

    name: bytes
    inode: int
    type: int


def superblock(root: int, inodes: int, blocks: int, uuid: bytes, *, compressed: bool) -> bytes:
    features = ZERO_PADDING if compressed else 0
    return _SUPERBLOCK.pack(
        MAGIC, 0, WITH_MTIME, BLOCK_BITS, 0, root, inodes, 0, 0, blocks, 0, 0, uuid, bytes(16),
        features, 0, 0, 0, 0,
    )  # fmt: skip


def inode(layout: int, mode: int, links: int, size: int, where: int, number: int) -> bytes:
    """An inode of root, without a time of its own; `where`: its first block, or how many it has if compressed."""
    counted = links if links <= MOST_LINKS else 1  # as for folders that Linux cannot count
    return _INODE.pack(layout << 1, 0, mode, counted, size, 0, where, number, 0, 0, 0)


def folder(entries: Sequence[Named], here: int, parent: int) -> bytes:
    """The content of a folder with its own two entries; all blocks but the last are filled up."""
    every = [*entries, Named(b".", here, FOLDER_TYPE), Named(b"..", parent, FOLDER_TYPE)]
    every.sort(key=lambda entry: entry.name)
    blocks: list[bytes] = []
    at, used = 0, 0
    for number, entry in enumerate(every):
        need = _ENTRY.size + len(entry.name)
        if used + need > BLOCK:
            blocks.append(_folder_block(every[at:number]).ljust(BLOCK, b"\0"))
            at, used = number, 0
        used += need
    blocks.append(_folder_block(every[at:]))
    return b"".join(blocks)


def _folder_block(entries: Sequence[Named]) -> bytes:
    at = _ENTRY.size * len(entries)
    heads = []
    for entry in entries:
        heads.append(_ENTRY.pack(entry.inode, at, entry.type, 0))
        at += len(entry.name)
    return b"".join((*heads, *(entry.name for entry in entries)))


@dataclass(frozen=True, slots=True)
class Extent:
    """Content from `at` to the next extent, in one block."""

    at: int
    block: int
    lz4: bool


def content_map(extents: Sequence[Extent], size: int) -> bytes:
    """The map of a compressed file: for each of its 4 KiB, where the extent begins that begins there."""
    clusters = -(-size // BLOCK)
    if extents[-1].at >> BLOCK_BITS < size >> BLOCK_BITS and size % BLOCK:
        # Linux takes the last extent to reach to the end of its 4 KiB, unless one begins at the file's end.
        extents = (*extents, Extent(size, 0, lz4=False))
    found = [MAP_HEADER]
    for number, extent in enumerate(extents):
        first = extent.at >> BLOCK_BITS
        after = number + 1
        last = extents[after].at >> BLOCK_BITS if after < len(extents) else clusters
        kind = LZ4_CLUSTER if extent.lz4 else STORED_CLUSTER
        found.append(_HEAD.pack(kind, extent.at % BLOCK, extent.block))
        found += (
            _LATER.pack(LATER_CLUSTER, 0, here - first, last - here)
            for here in range(first + 1, last)
        )
    return b"".join(found)
