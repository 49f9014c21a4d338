"""Identifies processes by /proc: start time, environment, and open files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
MOST_ENVIRON_BYTES = 64 * 1024
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

INSTANCE = "RECONCILER_INSTANCE"
GENERATION = "RECONCILER_GENERATION"
HYPERVISOR = "RECONCILER_HYPERVISOR"
FOLDER = "RECONCILER_VM"
"""The guest's folder: distinguishes guests of different state directories."""


@dataclass(frozen=True, slots=True)
class Stat:
    """The fields of /proc/PID/stat that identify a process."""

    state: str
    session: int
    start_time: int
    """Field 22: clock ticks between boot and the process's start."""

    @property
    def dead(self) -> bool:
        """Whether it has ended. A zombie counts: init may reap it seconds later."""
        return self.state in {"Z", "X", "x"}

    @property
    def started_boot(self) -> float:
        """When it was started, in seconds of the boot clock."""
        return self.start_time / TICKS_PER_SECOND


@dataclass(frozen=True, slots=True)
class Marked:
    """A process with our markers in its environment."""

    pid: int
    stat: Stat
    environ: dict[str, str]


def pids() -> tuple[int, ...]:
    """All processes of the host at this moment."""
    return tuple(int(name) for name in os.listdir(PROC) if name.isdigit())  # noqa: PTH208


def stat_of(pid: int) -> Stat | None:
    """The identity of a process; None if it does not exist."""
    try:
        raw = (PROC / str(pid) / "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command name is in parentheses, and may itself contain spaces and parentheses.
    fields = raw[raw.rindex(b")") + 2 :].split()
    return Stat(state=fields[0].decode(), session=int(fields[3]), start_time=int(fields[19]))


def markers_of(pid: int) -> dict[str, str]:
    """Our variables in a process's environment; empty if it ended or may not be read."""
    try:
        with (PROC / str(pid) / "environ").open("rb") as file:
            raw = file.read(MOST_ENVIRON_BYTES)
    except OSError:
        return {}
    found = {}
    for entry in raw.split(b"\0"):
        if entry.startswith(b"RECONCILER_"):
            key, _, value = entry.decode("utf-8", "surrogateescape").partition("=")
            found[key] = value
    return found


def marked_processes() -> Iterator[Marked]:
    """All living processes with our markers. Takes about 20 µs for each process of the host."""
    for pid in pids():
        environ = markers_of(pid)
        if INSTANCE not in environ:
            continue
        stat = stat_of(pid)
        if stat is not None and not stat.dead:
            yield Marked(pid, stat, environ)


def holds(pid: int, path: Path) -> bool:
    """Whether a process has this file open."""
    try:
        wanted = path.stat()
        descriptors = os.listdir(PROC / str(pid) / "fd")  # noqa: PTH208  names are enough
    except OSError:
        return False
    for name in descriptors:
        with contextlib.suppress(OSError):  # closed meanwhile, or of a kind that has no stat
            found = (PROC / str(pid) / "fd" / name).stat()
            if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                return True
    return False
