"""Logs of living guests, cut as soon as they are too large: by their bytes, and not only every other second.

The kernel says when a log was written to, once; then it is looked at after a moment, and asked about again.
So a quiet log costs nothing, and one at the speed of the disk grows beyond its bound by what the disk takes
in `MOMENT`. Where the kernel has no watches left, the supervisor's round bounds the log as before.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import select
import struct
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from reconciler.host import layout
from reconciler.supervisor import console

log = logging.getLogger(__name__)

MOMENT = 0.02
"""Seconds between a write and the look at the log."""
WORTH = 1.0
"""Seconds between two copies of one log; what is cut sooner is not kept."""
UNWATCHED = 2.0
"""Seconds until a log that cannot be watched is looked at again."""
IN_MODIFY, IN_DONT_FOLLOW, IN_ONESHOT = 0x2, 0x02000000, 0x80000000
EVENT = struct.Struct("iIII")
"""wd, mask, cookie and length of a name; inotify(7)."""
MOST_READ = 64 * 1024


@dataclass(slots=True)
class _Log:
    path: str
    look_at: float | None = None
    """A moment of the monotonic clock; None: the kernel says when it is written to."""
    copied_at: float = -WORTH
    watch: int = -1


class ConsoleWatch:
    """A thread over the logs of guests that were added."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._logs: dict[str, _Log] = {}
        self._by_watch: dict[int, _Log] = {}
        self._lock = threading.Lock()
        self._inotify = self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        self._wake, self._woken = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._thread: threading.Thread | None = None
        self._closed = False

    def add(self, folder: Path) -> None:
        """The logs in a guest's folder; they are looked at once at first."""
        with self._lock:
            for name in layout.LOGS:
                path = f"{folder}/{name}"
                self._logs[path] = _Log(path, look_at=time.monotonic())
            if self._thread is None and self._inotify >= 0:
                self._thread = threading.Thread(target=self._run, name="consoles", daemon=True)
                self._thread.start()
        self._tell()

    def remove(self, folder: Path) -> None:
        with self._lock:
            for name in layout.LOGS:
                gone = self._logs.pop(f"{folder}/{name}", None)
                if gone is not None and self._by_watch.pop(gone.watch, None) is not None:
                    self._libc.inotify_rm_watch(self._inotify, gone.watch)

    def close(self) -> None:
        """Once or more often."""
        if self._closed:
            return
        self._closed = True
        self._tell()
        if self._thread is not None:
            self._thread.join()
        for descriptor in (self._inotify, self._wake, self._woken):
            if descriptor >= 0:
                os.close(descriptor)

    def _tell(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._woken, b"x")

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._inotify, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while not self._closed:
            due = [one.look_at for one in list(self._logs.values()) if one.look_at is not None]
            wait = None if not due else max(0.0, min(due) - time.monotonic())
            poll.poll(None if wait is None else wait * 1000 + 1)
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake, MOST_READ)
            self._note()
            self._look()

    def _note(self) -> None:
        """Which logs were written to, by what the kernel says."""
        try:
            raw = os.read(self._inotify, MOST_READ)
        except BlockingIOError:
            return
        at, moment = 0, time.monotonic() + MOMENT
        with self._lock:
            while at < len(raw):
                watch, _, _, length = EVENT.unpack_from(raw, at)
                at += EVENT.size + length
                written = self._by_watch.pop(watch, None)
                if written is not None:
                    written.watch, written.look_at = -1, moment
                elif watch < 0:  # it lost count
                    for one in self._logs.values():
                        one.look_at = moment

    def _look(self) -> None:
        now = time.monotonic()
        for one in list(self._logs.values()):
            if one.look_at is None or one.look_at > now:
                continue
            # Watched before it is looked at: what is written in between is not missed.
            watched = self._watch(one)
            try:
                copied = now - one.copied_at >= WORTH
                if console.bound_file(one.path, self._most, copied=copied) and copied:
                    one.copied_at = now
            except OSError as error:
                log.debug("a log is not bounded now: %s: %s", one.path, error.strerror)
            one.look_at = None if watched else now + UNWATCHED

    def _watch(self, one: _Log) -> bool:
        with self._lock:
            if one.path not in self._logs:
                return True  # it is none of ours any more
            if one.watch >= 0:
                return True
            wanted = IN_MODIFY | IN_DONT_FOLLOW | IN_ONESHOT
            one.watch = self._libc.inotify_add_watch(self._inotify, os.fsencode(one.path), wanted)
            if one.watch >= 0:
                self._by_watch[one.watch] = one
            return one.watch >= 0
