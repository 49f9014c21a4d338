"""A file that grows at its end and is patched in places: few large writes, which the disk begins at once."""

from __future__ import annotations

import ctypes
import os

HELD = 1 << 20
AT_ONCE = 16 << 20
"""So much is handed to the disk while the rest is made: at the end little is left to wait for."""
SYNC_FILE_RANGE_WRITE = 2


class WrittenFile:
    """`size` counts what was appended; `patch` changes bytes that were."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._held = bytearray()
        self._flushed = self._begun = 0
        self._libc = ctypes.CDLL(None)

    @property
    def size(self) -> int:
        return self._flushed + len(self._held)

    def append(self, piece: bytes | memoryview) -> None:
        self._held += piece
        if len(self._held) >= HELD:
            self.flush()

    def align(self, block: int) -> None:
        if missing := -self.size % block:
            self.append(bytes(missing))

    def patch(self, at: int, piece: bytes) -> None:
        """The bytes lie within one flush or the other, unless they are longer than what is held."""
        if at < self._flushed:
            if at + len(piece) > self._flushed:
                self.flush()
            _write(self._file, piece, at)
        else:
            start = at - self._flushed
            self._held[start : start + len(piece)] = piece

    def close(self) -> None:
        self.flush()
        os.close(self._file)

    def flush(self) -> None:
        _write(self._file, self._held, self._flushed)
        self._flushed += len(self._held)
        self._held.clear()
        if self._flushed - self._begun >= AT_ONCE:
            # A hint: where the system does not know it, the sync at the end does all.
            length = ctypes.c_int64(self._flushed - self._begun)
            start = ctypes.c_int64(self._begun)
            self._libc.sync_file_range(self._file, start, length, SYNC_FILE_RANGE_WRITE)
            self._begun = self._flushed


def _write(file: int, piece: bytes | bytearray, at: int) -> None:
    view = memoryview(piece)
    while view:
        done = os.pwrite(file, view, at)
        view, at = view[done:], at + done
