"""LZ4 in blocks of one size, by the library that mkfs.erofs uses too."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass

from reconciler.erofs.structures import BLOCK

LIBRARY = "liblz4.so.1"
MOST_SKIPPED = 16
"""Blocks that are not tried after many in a row that became no smaller."""


class Lz4Missing(OSError):
    """The host has no liblz4."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Content from `at` on, as one block: of LZ4, or as it is."""

    at: int
    block: bytes | memoryview
    """At most BLOCK bytes."""
    lz4: bool


class Lz4:
    """Raises Lz4Missing."""

    def __init__(self) -> None:
        try:
            self._compress = ctypes.CDLL(LIBRARY).LZ4_compress_destSize
        except (OSError, AttributeError) as error:
            raise Lz4Missing(f"{LIBRARY}: {error}") from error
        self._compress.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
        self._compress.restype = ctypes.c_int
        self._room = ctypes.create_string_buffer(BLOCK)

    def pieces(self, content: bytes) -> Iterator[Piece]:
        """All of it, in order; each piece of LZ4 holds more than one block's content."""
        view, size = memoryview(content), len(content)
        start = ctypes.cast(ctypes.c_char_p(content), ctypes.c_void_p).value or 0
        taken = ctypes.c_int()
        at, failed, skip = 0, 0, 0
        while at < size:
            taken.value = size - at
            room = 0
            if skip or size - at <= BLOCK:
                skip = max(0, skip - 1)
            else:
                room = self._compress(start + at, self._room, ctypes.byref(taken), BLOCK)
                room = room if taken.value > BLOCK else 0
                failed = 0 if room else failed + 1
                skip = min(failed // 2, MOST_SKIPPED)
            if room:
                yield Piece(at, self._room.raw[:room].rjust(BLOCK, b"\0"), lz4=True)
                at += taken.value
            else:
                yield Piece(at, view[at : at + BLOCK], lz4=False)
                at += BLOCK
