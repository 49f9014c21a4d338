"""When to look at a source again: after a delay, or at once when a local repository changes.

The watch is only a hint, because inotify may drop events; the periodic look finds what it missed.
"""

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
"""Seconds between looks at a repository on this host; each costs about a millisecond."""
FIRST_BACKOFF = 5.0
"""Seconds after the first failure; doubled by each further one, up to the longest."""
LONGEST_BACKOFF = 600.0
LONGEST_LOCAL_BACKOFF = 30.0
SPREAD = 0.1
"""Jitter as a share of the interval, up and down, so that many hosts do not ask one server at once."""
MOST_DOUBLINGS = 16
"""Caps the exponent: a float overflows after some thousand failures in a row."""


FIRST_REST, LONGEST_REST = 300.0, 3600.0
"""Seconds until a revision that exceeded a limit of time or memory is read again."""
log = logging.getLogger(__name__)
DEBOUNCE = 0.005
"""Seconds to wait after an event: one push changes several files."""
AGAIN = 0.05
"""Seconds until a second callback. watchdog holds back one half of a rename for half a second while it
waits for the other, so the events before it may arrive before the new ref is in place."""
CHANGES = frozenset({"created", "modified", "moved", "deleted"})
NAMES = frozenset({"HEAD", "packed-refs"})
JOIN_SECONDS = 2.0
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 600.0
"""Seconds until watching is tried again after it failed."""
MOST_FOLDERS = 1_000
"""Folders that are watched: each takes one of the user's inotify watches."""


def pause_before_reading_again(tries: int) -> float:
    """Seconds until a revision that exceeded a limit is read again, after `tries` attempts."""
    return min(FIRST_REST * 2.0 ** (min(tries, MOST_DOUBLINGS) - 1), LONGEST_REST)


def delay_after(failures: int, interval: float, *, local: bool, draw: float) -> float:
    """Seconds to the next look after so many failures in a row; `draw` is a random number in [0, 1)."""
    if failures <= 0:
        return LOCAL_INTERVAL if local else interval * (1 + SPREAD * (2 * draw - 1))
    # After failures jitter only lengthens the pause, so that a struggling server is not asked sooner.
    doubled = FIRST_BACKOFF * 2.0 ** min(failures - 1, MOST_DOUBLINGS)
    longest = LONGEST_LOCAL_BACKOFF if local else LONGEST_BACKOFF
    return min(doubled * (1 + 2 * SPREAD * draw), longest)


class LocalWatch(FileSystemEventHandler):
    """Calls back on the event loop when refs of a repository change.

    `refresh` starts watching again when the repository was replaced by another folder.
    """

    def __init__(
        self,
        repository: Path,
        callback: Callable[[], None],
        clock: Callable[[], float] | None = None,
    ) -> None:
        """`clock` returns the seconds by which pauses are measured; by default the event loop's."""
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
        """Whether events arrive at present."""
        return self._observer is not None

    def refresh(self) -> None:
        """Watch the folder that is at the path now; cheap if it is watched already.

        Failures are retried after growing pauses, as the periodic look is enough meanwhile.
        """
        folder = git_folder(self._repository)
        identity = _identity_of(folder / "refs")
        if identity == self._armed and (self._observer is None or _is_well(self._observer)):
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
        """A running observer. Raises OSError; a failed attempt leaves no descriptor open."""
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
        """Called in the observer's thread, so it hands over to the event loop."""
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
        """Stop watching. `refresh` may start again."""
        observer, self._observer, self._armed = self._observer, None, None
        if observer is not None:
            ended(observer)


def ended(observer: BaseObserver) -> None:
    """Stop an observer and its threads; one that never started must not be joined."""
    observer.stop()
    if observer.is_alive():
        observer.join(JOIN_SECONDS)


def _is_well(observer: BaseObserver) -> bool:
    return observer.is_alive() and all(emitter.is_alive() for emitter in observer.emitters)


def try_watches(folder: Path) -> None:
    """Take as many inotify watches as are needed, and release them. Raises OSError.

    watchdog leaks three descriptors whenever it fails halfway, so failures are found beforehand.
    """
    refs = (Path(path) for path, _, _ in os.walk(folder / "refs"))
    wanted = [folder, *islice(refs, MOST_FOLDERS + 1)]
    if len(wanted) > MOST_FOLDERS:
        raise OSError(f"more than {MOST_FOLDERS} folders below refs")
    descriptors: list[int] = []
    try:
        for _ in range(2):  # the observer has two emitters, each with an inotify instance
            descriptors.append(_checked(inotify_init()))  # noqa: PERF401 - the first is closed if the second fails
        descriptors += os.pipe()
        for path in wanted:
            _checked(inotify_add_watch(descriptors[0], os.fsencode(path), WATCHDOG_ALL_EVENTS))
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _checked(result: int) -> int:
    """The result of a libc call. Raises OSError if it is negative."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def git_folder(repository: Path) -> Path:
    """The folder with the refs: `.git`, or a bare repository itself."""
    inner = repository / ".git"
    return inner if inner.is_dir() else repository


def _identity_of(folder: Path) -> tuple[int, int] | None:
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def is_a_ref(path: str) -> bool:
    """Whether a path is HEAD, packed-refs or below refs. Lock files are not: git makes one before each change."""
    if path.endswith(".lock"):
        return False
    return "/refs/" in path or path.rsplit("/", 1)[-1] in NAMES
