"""The plain bytes of a tar that may be compressed: in order, bounded and hashed, read ahead by a thread.

A thread decompresses and hashes, both of which let others run meanwhile; a few chunks are held at a time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Self

from reconciler.untrusted_file import open_file, reading

MOST_BYTES = 16 << 30
"""Of a tar without its compression: four times the largest image that a builder may write. A bomb ends here."""
CHUNK = 1 << 20
PACKED_CHUNK = 64 << 10
"""Small, because what follows the end of a gzip member is copied once for each member."""
MOST_AHEAD = 8
"""Chunks that wait to be taken."""
GZIP, ZSTD, ZSTD_SKIPPED = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x2a\x4d\x18"
MAGIC_BYTES = 4
ZSTD_PROGRAM = ("zstd", "-dcq")
WITH_GZIP_HEADER = 31
"""zlib's `wbits` for gzip: it checks length and checksum of each member."""


class BadArchiveError(Exception):
    """An archive that can never become an image; the message says which entry is at fault, and why."""


class ArchiveStream:
    """The bytes of an archive, once. Close it: it may have a thread and a program."""

    def __init__(self, path: Path, most_bytes: int = MOST_BYTES) -> None:
        # Another user of the host may have put a pipe in its place, or a link.
        self._file = os.fdopen(open_file(path, os.O_RDONLY), "rb", buffering=0)
        self._most_bytes = most_bytes
        self._sha256 = hashlib.sha256()
        self._ahead: queue.Queue[bytes | BaseException] = queue.Queue(MOST_AHEAD)
        self._chunk, self._at, self._before = b"", 0, 0
        self._over = self._closed = False
        self._thread = threading.Thread(target=self._read_ahead, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        while self._thread.is_alive():
            # It may wait for room: what it read is dropped.
            with contextlib.suppress(queue.Empty):
                self._ahead.get(timeout=0.01)
        self._file.close()

    @property
    def position(self) -> int:
        """Of the next byte, from the archive's beginning."""
        return self._before + self._at

    def read(self, size: int) -> bytes:
        """The next `size` bytes; fewer at the end. Raises BadArchiveError."""
        end = self._at + size
        if end <= len(self._chunk):
            found = self._chunk[self._at : end]
            self._at = end
            return found
        pieces: list[bytes] = []
        self.copy(size, lambda piece: pieces.append(bytes(piece)))
        return b"".join(pieces)

    def copy(self, size: int, take: Callable[[memoryview], object]) -> int:
        """Hand the next `size` bytes on, piece by piece; returns how many there were."""
        left = size
        while left and (self._at < len(self._chunk) or self._next_chunk()):
            end = min(self._at + left, len(self._chunk))
            take(memoryview(self._chunk)[self._at : end])
            left -= end - self._at
            self._at = end
        return size - left

    def skip_to(self, position: int) -> bool:
        """Go forward; False when the archive ends before."""
        left = position - self.position
        return left >= 0 and self.copy(left, lambda _: None) == left

    def finish(self) -> str:
        """Read to the end; returns the sha256 of all bytes in hex. Raises BadArchiveError."""
        while self._next_chunk():
            pass
        return self._sha256.hexdigest()

    def _next_chunk(self) -> bool:
        if self._over:
            return False
        found = self._ahead.get()
        if isinstance(found, BaseException):
            self._over = True
            raise found
        self._before += len(self._chunk)
        self._chunk, self._at = found, 0
        self._over = not found
        return not self._over

    def _read_ahead(self) -> None:
        size = 0
        try:
            for chunk in _plain(self._file):
                if self._closed:
                    return
                size += len(chunk)
                if size > self._most_bytes:
                    most = self._most_bytes >> 20
                    raise BadArchiveError(f"the archive unpacks to more than {most} MiB")  # noqa: TRY301  # for the reader
                self._sha256.update(chunk)
                self._ahead.put(chunk)
            self._ahead.put(b"")
        except BaseException as error:  # noqa: BLE001  # the reader raises it
            self._ahead.put(error)


def is_compressed(path: Path) -> bool:
    """Whether an archive begins as one of the compressions that `ArchiveStream` undoes."""
    with reading(path) as file:
        magic = file.read(MAGIC_BYTES)
    return magic.startswith(GZIP) or magic == ZSTD or magic[1:] == ZSTD_SKIPPED


def _plain(file: BinaryIO) -> Iterator[bytes]:
    magic = file.read(MAGIC_BYTES)
    file.seek(0)
    if magic.startswith(GZIP):
        return _gunzipped(file)
    if magic == ZSTD or magic[1:] == ZSTD_SKIPPED:
        return _unzstd(file)
    return iter(lambda: file.read(CHUNK), b"")


def _gunzipped(file: BinaryIO) -> Iterator[bytes]:
    """Members one after the other, as compressors that work in parallel write them."""
    packed = file.read(PACKED_CHUNK)
    while packed:
        member = zlib.decompressobj(WITH_GZIP_HEADER)
        while True:
            try:
                plain = member.decompress(packed, CHUNK)
            except zlib.error as error:
                raise BadArchiveError(f"the archive is not whole gzip: {error}") from error
            if plain:
                yield plain
            if member.eof:
                break
            if not plain and not packed:
                raise BadArchiveError("the archive is cut off: its gzip does not end")
            packed = member.unconsumed_tail or file.read(PACKED_CHUNK)
        # Some writers fill the last block of a tape with zeros.
        packed = member.unused_data.lstrip(b"\0")
        while not packed and (more := file.read(PACKED_CHUNK)):
            packed = more.lstrip(b"\0")


def _unzstd(file: BinaryIO) -> Iterator[bytes]:
    """By Debian's program: Python has no zstd of its own before 3.14."""
    with subprocess.Popen(
        ZSTD_PROGRAM, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as program:
        if program.stdout is None:
            raise AssertionError("it was started with a pipe")
        try:
            while chunk := program.stdout.read(CHUNK):
                yield chunk
        except GeneratorExit:
            program.kill()
            raise
        if program.wait() != 0:
            raise BadArchiveError("the archive is not whole zstd")
