"""Notices a push to a repository on this host. A hint only: inotify loses events without a word."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver
from watchdog.observers.inotify_c import WATCHDOG_ALL_EVENTS, inotify_add_watch, inotify_init

LOCAL_INTERVAL = 1.0
"""Seconds; a look at a repository on this host costs a millisecond."""
FIRST_BACKOFF = 5.0
LONGEST_BACKOFF = 600.0
LONGEST_LOCAL_BACKOFF = 30.0
SPREAD = 0.1
"""Of the interval, up and down: many hosts must not ask one server at the same moment."""
MOST_DOUBLINGS = 16


FIRST_REST, LONGEST_REST = 300.0, 3600.0
"""Seconds until a revision is read again that could not be read within the bounds."""


def pause_before_reading_again(tries: int) -> float:
    return min(FIRST_REST * 2.0 ** (min(tries, MOST_DOUBLINGS) - 1), LONGEST_REST)


def delay_after(failures: int, interval: float, *, local: bool, draw: float) -> float:
    """Seconds to the next look; `draw` is a random number of [0, 1)."""
    if failures <= 0:
        return LOCAL_INTERVAL if local else interval * (1 + SPREAD * (2 * draw - 1))
    doubled = FIRST_BACKOFF * 2.0 ** min(failures - 1, MOST_DOUBLINGS)
    longest = LONGEST_LOCAL_BACKOFF if local else LONGEST_BACKOFF
    return min(doubled * (1 + 2 * SPREAD * draw), longest)


log = logging.getLogger(__name__)

DEBOUNCE = 0.005
"""Seconds: one push moves several files."""
AGAIN = 0.05
"""Seconds to a second look. Where the two halves of a rename are not read together, watchdog keeps
them back for half a second, and what was told before them came before the new ref was there."""
CHANGES = frozenset({"created", "modified", "moved", "deleted"})
NAMES = frozenset({"HEAD", "packed-refs"})
JOIN_SECONDS = 2.0
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 600.0
"""Seconds until it is tried again to watch what could not be."""
MOST_FOLDERS = 1_000
"""That are watched: each takes one of the user's watches."""


class LocalWatch(FileSystemEventHandler):
    """Calls back on the loop when refs move. Armed again when the folder is another than before."""

    def __init__(
        self,
        repository: Path,
        callback: Callable[[], None],
        clock: Callable[[], float] | None = None,
    ) -> None:
        """`clock` tells the seconds by which pauses are counted; none: the loop's."""
        self._repository = repository
        self._callback = callback
        self._loop = asyncio.get_running_loop()
        self._clock = clock or self._loop.time
        self._failures = 0
        self._not_before = 0.0
        self._observer: BaseObserver | None = None
        self._armed: tuple[int, int] | None = None
        self._pending = False
        self.refresh()

    @property
    def watching(self) -> bool:
        return self._observer is not None

    def refresh(self) -> None:
        """Watch what is at the path now; cheap when that is what is watched already.

        What cannot be watched is tried again after a pause, which grows: the periodic look is enough.
        """
        folder = git_folder(self._repository)
        identity = identity_of(folder / "refs")
        if identity == self._armed and (self._observer is None or is_well(self._observer)):
            return
        broke = identity == self._armed
        self.close()
        if identity is None or self._clock() < self._not_before:
            return
        try:
            if broke:
                raise OSError("its watch ended")  # noqa: TRY301
            self._observer = self._watched(folder)
        except (OSError, RuntimeError) as error:
            pause = min(FIRST_PAUSE * 2.0 ** min(self._failures, 16), LONGEST_PAUSE)
            self._not_before = self._clock() + pause
            self._failures += 1
            fields = {"error": str(error), "again_in": f"{pause:g} s"}
            log.info("the repository cannot be watched", extra={"fields": fields})
        else:
            self._armed, self._failures = identity, 0

    def _watched(self, folder: Path) -> BaseObserver:
        """Raises OSError; nothing of a failed attempt stays open."""
        try_watches(folder)
        observer = Observer()
        try:
            observer.schedule(self, str(folder), recursive=False)
            observer.schedule(self, str(folder / "refs"), recursive=True)
            observer.start()
        except BaseException:
            ended(observer)
            raise
        return observer

    def on_any_event(self, event: FileSystemEvent) -> None:
        """In the observer's thread."""
        if event.event_type in CHANGES and is_a_ref(str(event.dest_path or event.src_path)):
            self._loop.call_soon_threadsafe(self._soon)

    def _soon(self) -> None:
        if not self._pending:
            self._pending = True
            self._loop.call_later(DEBOUNCE, self._now)

    def _now(self) -> None:
        self._pending = False
        self._callback()
        self._loop.call_later(AGAIN, self._callback)

    def close(self) -> None:
        observer, self._observer, self._armed = self._observer, None, None
        if observer is not None:
            ended(observer)


def ended(observer: BaseObserver) -> None:
    """Stop it and what it started; one that never ran has nothing to be joined."""
    observer.stop()
    if observer.is_alive():
        observer.join(JOIN_SECONDS)


def is_well(observer: BaseObserver) -> bool:
    return observer.is_alive() and all(emitter.is_alive() for emitter in observer.emitters)


def try_watches(folder: Path) -> None:
    """Take as many watches as are needed, and give them back. Raises OSError.

    The library leaves three descriptors open each time that it fails in the middle.
    """
    refs = (Path(path) for path, _, _ in os.walk(folder / "refs"))
    wanted = [folder, *islice(refs, MOST_FOLDERS + 1)]
    if len(wanted) > MOST_FOLDERS:
        raise OSError(f"more than {MOST_FOLDERS} folders below refs")
    descriptors: list[int] = []
    try:
        for _ in range(2):  # as many as the observer has emitters
            descriptors.append(_checked(inotify_init()))  # noqa: PERF401 - the first is closed if the second fails
        descriptors += os.pipe()
        for path in wanted:
            _checked(inotify_add_watch(descriptors[0], os.fsencode(path), WATCHDOG_ALL_EVENTS))
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _checked(result: int) -> int:
    """What a call of libc answered. Raises OSError."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def git_folder(repository: Path) -> Path:
    """Where the refs are: in the repository itself when it is bare."""
    inner = repository / ".git"
    return inner if inner.is_dir() else repository


def identity_of(folder: Path) -> tuple[int, int] | None:
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def is_a_ref(path: str) -> bool:
    """HEAD, packed-refs, or a file below refs; git's locks come and go before each of them."""
    if path.endswith(".lock"):
        return False
    return "/refs/" in path or path.rsplit("/", 1)[-1] in NAMES
