"""Reads images again and compares them with what was made: from the disk itself, past the page cache.

The page cache stays as it is: guests of one base share what is in it, and a good page there would
hide what rotted below. A difference counts only if a second reading finds it too.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import hashlib
import mmap
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from reconciler.image.image_directory import Mark
from reconciler.model.image import BuiltImage
from reconciler.model.store_status import CheckResult, ImageCheck

BLOCK = 1024 * 1024
"""Bytes of one read; a multiple of every block size."""
UNDIRECTED = (errno.EINVAL, errno.EOPNOTSUPP)
"""What file systems answer that cannot read past the page cache."""
AT_ONCE = 2
"""Images that are read at the same time: one slowly in the background, one for a person."""


class Entries(Protocol):
    """A folder of entries that are files of ours."""

    def path(self, key: str, file: str) -> Path: ...

    def marks(self, key: str) -> dict[str, Mark]:
        """By file, what was made; empty: the entry is not there."""
        ...


class Stopped(Exception):
    """The result is not waited for any more."""


class ImageReader:
    """Reads in threads of its own, so that builds do not wait for them. `close` comes last."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="image-reading")

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def read(
        self,
        image: BuiltImage,
        entries: Entries,
        *,
        bytes_per_second: float,
        progress: Callable[[int], None] = lambda _: None,
    ) -> ImageCheck:
        """Whether all bytes of an image are as they were made.

        `progress` gets the bytes read so far, in the reading thread. A cancellation ends the reading
        within one block.
        """
        stop = threading.Event()
        pace = _Pace(stop, bytes_per_second, progress)
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._pool, functools.partial(_judge, image.key, entries, pace))
        try:
            result, why = await asyncio.shield(work)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait({work})
            work.exception()  # looked at: that it was stopped is known
            raise
        return ImageCheck(image.key, image.title, image.size_bytes, pace.read_bytes, result, why)


class _Pace:
    """Counts and delays; called in the reading thread after each block."""

    def __init__(
        self, stop: threading.Event, bytes_per_second: float, progress: Callable[[int], None]
    ) -> None:
        self._stop = stop
        self._bytes_per_second = bytes_per_second
        self._progress = progress
        self.read_bytes = 0

    def went_on(self, size: int) -> None:
        """Raises Stopped."""
        self.read_bytes += size
        self._progress(self.read_bytes)
        if self._stop.wait(size / self._bytes_per_second):
            raise Stopped


def _judge(key: str, entries: Entries, pace: _Pace) -> tuple[CheckResult, str]:
    marks = entries.marks(key)
    try:
        faults = [f for name, m in marks.items() if (f := _fault(entries.path(key, name), m, pace))]
    except FileNotFoundError:
        return "gone", "it left the store while it was read"
    if not marks or entries.marks(key) != marks:
        return "gone", "it was removed or made again while it was read"
    return ("rotten", "; ".join(faults)) if faults else ("sound", "")


def _fault(file: Path, mark: Mark, pace: _Pace) -> str:
    """What is wrong with a file, found by two readings; empty: nothing. Raises FileNotFoundError."""
    found = ""
    for _ in range(2):
        try:
            sha256 = _digest(file, pace)
        except FileNotFoundError:
            raise
        except OSError as error:
            found = f"{file.name} cannot be read: {error.strerror}"
        else:
            if sha256 == mark.sha256:
                return ""
            found = f"{file.name} has sha256 {sha256[:12]}, and was made with {mark.sha256[:12]}"
    return found


def _digest(file: Path, pace: _Pace) -> str:
    sha256 = hashlib.sha256()
    descriptor = _open(file)
    try:
        with mmap.mmap(-1, BLOCK) as block, memoryview(block) as view:  # aligned, as O_DIRECT asks
            at = 0
            end = os.fstat(descriptor).st_size
            while at < end and (size := os.preadv(descriptor, [view], at)):
                sha256.update(view[:size])
                at += size
                pace.went_on(size)
    finally:
        os.close(descriptor)
    return sha256.hexdigest()


def _open(file: Path) -> int:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(file, flags | os.O_DIRECT)
    except OSError as error:
        if error.errno not in UNDIRECTED:
            raise
        return os.open(file, flags)
