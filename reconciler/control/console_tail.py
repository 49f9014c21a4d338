"""The end of a guest's console log, and what is added to it, across rotations."""

from __future__ import annotations

import os
from pathlib import Path

from reconciler.untrusted_file import open_file

MOST_TAIL_BYTES = 1024 * 1024
"""The most of a log that is read for its last lines, whatever their number."""
CHUNK_BYTES = 64 * 1024


def _read(path: Path, offset: int, most: int) -> tuple[bytes, int]:
    """At most `most` bytes from `offset`, or from the end if that is negative; and the file's size.

    The log belongs to a VMM: a link or a pipe that it might have put there is not followed.
    """
    try:
        descriptor = open_file(path, os.O_RDONLY)
    except OSError:
        return b"", 0
    try:
        found = os.fstat(descriptor)
        begin = max(0, found.st_size + offset) if offset < 0 else offset
        return os.pread(descriptor, most, begin), found.st_size
    finally:
        os.close(descriptor)


class ConsoleReader:
    """Reads one log; blocking, but never more than a bounded piece of a local file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._older = path.with_name(path.name + ".1")
        self._offset = 0

    def tail(self, lines: int, most: int = MOST_TAIL_BYTES) -> bytes:
        """The last `lines` lines, of at most so many bytes; reading goes on after them."""
        text, size = _read(self._path, -most, most)
        self._offset = size
        if text.count(b"\n") < lines and len(text) < most:
            room = most - len(text)
            text = _read(self._older, -room, room)[0] + text
        return b"".join(text.splitlines(keepends=True)[-lines:]) if lines else b""

    def more(self) -> bytes:
        """What was added since, at most one chunk; empty when nothing was."""
        text, size = _read(self._path, self._offset, CHUNK_BYTES)
        if size < self._offset:
            # Rotated: the rest of what we were reading is in the older part.
            rest, _ = _read(self._older, self._offset, MOST_TAIL_BYTES)
            self._offset = 0
            return rest + self.more()
        self._offset += len(text)
        return text
