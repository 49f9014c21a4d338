"""Bounds the logs of running guests within milliseconds of a write, not only every other second.

An inotify watch reports one write; then the log is checked after a moment and watched again. So a quiet
log costs nothing, and one written at disk speed exceeds its limit by what the disk takes in `MOMENT`.
If the kernel has no watches left, the supervisor's round bounds the log.
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
"""Seconds between a write and the check of the log's size."""
WORTH = 1.0
"""Seconds between two copies of one log. A log that is cut sooner is not copied: copying could not keep up."""
UNWATCHED = 2.0
"""Seconds between checks of a log that cannot be watched."""
IN_MODIFY, IN_DONT_FOLLOW, IN_ONESHOT = 0x2, 0x02000000, 0x80000000
EVENT = struct.Struct("iIII")
"""wd, mask, cookie and length of a name; inotify(7)."""
MOST_READ = 64 * 1024


@dataclass(slots=True)
class _Log:
    path: str
    due: float | None = None
    """When to check it, by the monotonic clock; None: inotify reports the next write."""
    copied_at: float = -WORTH
    watch: int = -1


class ConsoleWatch:
    """A thread that bounds the logs of the guests that were added."""

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
        """Watch the logs in a guest's folder, and check them at once."""
        with self._lock:
            for name in layout.LOGS:
                path = f"{folder}/{name}"
                self._logs[path] = _Log(path, due=time.monotonic())
            if self._thread is None and self._inotify >= 0:
                self._thread = threading.Thread(target=self._run, name="consoles", daemon=True)
                self._thread.start()
        self._wake_thread()

    def remove(self, folder: Path) -> None:
        """Stop watching the logs in a guest's folder."""
        with self._lock:
            for name in layout.LOGS:
                gone = self._logs.pop(f"{folder}/{name}", None)
                if gone is not None and self._by_watch.pop(gone.watch, None) is not None:
                    self._libc.inotify_rm_watch(self._inotify, gone.watch)

    def close(self) -> None:
        """End the thread. May be called more than once."""
        if self._closed:
            return
        self._closed = True
        self._wake_thread()
        if self._thread is not None:
            self._thread.join()
        for descriptor in (self._inotify, self._wake, self._woken):
            if descriptor >= 0:
                os.close(descriptor)

    def _wake_thread(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._woken, b"x")

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._inotify, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while not self._closed:
            moments = [one.due for one in list(self._logs.values()) if one.due is not None]
            wait = None if not moments else max(0.0, min(moments) - time.monotonic())
            poll.poll(None if wait is None else wait * 1000 + 1)
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake, MOST_READ)
            self._read_events()
            self._bound_due()

    def _read_events(self) -> None:
        """Read inotify events, and set when the written logs are checked."""
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
                    written.watch, written.due = -1, moment
                elif watch < 0:  # the event queue overflowed, so any log may have been written to
                    for one in self._logs.values():
                        one.due = moment

    def _bound_due(self) -> None:
        now = time.monotonic()
        for one in list(self._logs.values()):
            if one.due is None or one.due > now:
                continue
            # Watch before the check, so that no write in between is missed.
            watched = self._watch(one)
            try:
                copied = now - one.copied_at >= WORTH
                if console.bound_file(one.path, self._most, copied=copied) and copied:
                    one.copied_at = now
            except OSError as error:
                log.debug("a log is not bounded now: %s: %s", one.path, error.strerror)
            one.due = None if watched else now + UNWATCHED

    def _watch(self, one: _Log) -> bool:
        with self._lock:
            if one.path not in self._logs:
                return True  # removed meanwhile
            if one.watch >= 0:
                return True
            wanted = IN_MODIFY | IN_DONT_FOLLOW | IN_ONESHOT
            one.watch = self._libc.inotify_add_watch(self._inotify, os.fsencode(one.path), wanted)
            if one.watch >= 0:
                self._by_watch[one.watch] = one
            return one.watch >= 0
