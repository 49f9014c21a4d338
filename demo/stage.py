"""A fleet for trials: repository, daemon and guests under one temporary folder, and their end."""

from __future__ import annotations

import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from demo import images
from demo.daemon import Daemon, Settings, free_port
from demo.processes import end, guests_under, processes_under
from demo.repository import Repository
from reconciler.host import layout

MANIFESTS = Path(__file__).resolve().parents[1] / "manifests"
NOT_OF_THE_FLEET = ("nginx", "postgres")
"""Folders in there with VMs of Debian packages, which take a gigabyte and longer to boot."""


class Stage:
    """Everything that `close` ends and removes again."""

    def __init__(self, root: Path, repository: Repository, daemon: Daemon) -> None:
        self.root = root
        self.repository = repository
        self.daemon = daemon

    @classmethod
    def open(cls, http_port: int | None = None) -> Self:
        """A new repository, still empty, and a daemon on it, not started yet."""
        root = Path(tempfile.mkdtemp(prefix="rc-")).resolve()
        try:
            repository = Repository.create(root)
            settings = Settings(
                repository=repository.bare,
                state=root / "state",
                socket=root / "control.sock",
                http_port=http_port or free_port(),
            )
            return cls(root, repository, Daemon(root, settings))
        except BaseException:
            shutil.rmtree(root, ignore_errors=True)
            raise

    @property
    def state(self) -> Path:
        return self.daemon.settings.state

    def seed(self) -> bool:
        return images.seed(self.state)

    def layers(self) -> set[str]:
        """The names of the layers in the store."""
        with suppress(OSError):
            found = layout.images(self.state, "layers").iterdir()
            return {entry.name for entry in found if entry.is_dir() and entry.name[0] != "."}
        return set()

    def console(self, vm: str) -> str:
        with suppress(OSError):
            log = layout.console(layout.vm(self.state, vm))
            return log.read_text(encoding="utf-8", errors="replace")
        return ""

    def end_processes(self) -> list[str]:
        """Stop the daemon, then end its guests. Returns a line for each process that survived."""
        self.daemon.stop()
        end(guest.pid for guest in guests_under(self.root))
        # A helper that was orphaned by `kill -9` may need a moment to notice.
        end(helper.pid for helper in processes_under(self.root) if is_ours(helper.command))
        return [f"{left.pid} {left.command}" for left in guests_under(self.root)]

    def close(self, *, keep_files: bool = False) -> list[str]:
        """End everything. Returns what could not be ended; `keep_files` keeps the files."""
        with uninterrupted():
            with suppress(OSError):
                images.save(self.state)
            left = self.end_processes()
            if not keep_files:
                shutil.rmtree(self.root, ignore_errors=True)
            return left


def is_ours(command: str) -> bool:
    """Not the editor or pager of a person who reads a log."""
    return "reconciler" in command or "git" in command.split(" ", 1)[0]


@contextmanager
def uninterrupted() -> Iterator[None]:
    """A second Ctrl-C must not leave half of the guests behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in former:
            signal.signal(number, signal.SIG_IGN)
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler or signal.SIG_DFL)
