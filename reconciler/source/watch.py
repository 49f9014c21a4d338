"""Notices a push to a repository on this host. A hint only: inotify loses events without a word."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

log = logging.getLogger(__name__)

DEBOUNCE = 0.005
"""Seconds: one push moves several files."""
AGAIN = 0.05
"""Seconds to a second look. Where the two halves of a rename are not read together, watchdog keeps
them back for half a second, and what was told before them came before the new ref was there."""
CHANGES = frozenset({"created", "modified", "moved", "deleted"})
NAMES = frozenset({"HEAD", "packed-refs"})
JOIN_SECONDS = 2.0


class LocalWatch(FileSystemEventHandler):
    """Calls back on the loop when refs move. Armed again when the folder is another than before."""

    def __init__(self, repository: Path, callback: Callable[[], None]) -> None:
        self._repository = repository
        self._callback = callback
        self._loop = asyncio.get_running_loop()
        self._observer: BaseObserver | None = None
        self._armed: tuple[int, int] | None = None
        self._pending = False
        self.refresh()

    def refresh(self) -> None:
        """Watch what is at the path now; cheap when that is what is watched already."""
        folder = git_folder(self._repository)
        identity = identity_of(folder / "refs")
        if identity == self._armed:
            return
        self.close()
        if identity is None:
            return
        observer = Observer()
        try:
            observer.schedule(self, str(folder), recursive=False)
            observer.schedule(self, str(folder / "refs"), recursive=True)
            observer.start()
        except OSError as error:  # no inotify left: the periodic look is enough
            log.info("the repository cannot be watched", extra={"fields": {"error": str(error)}})
            return
        self._observer, self._armed = observer, identity

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
            observer.stop()
            observer.join(JOIN_SECONDS)


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
