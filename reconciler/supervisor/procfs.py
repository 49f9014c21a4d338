"""Who a process is, as /proc tells it: (pid, start time), environment, and the files it holds."""

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
"""The guest's folder: tells guests of one state directory from those of another."""


@dataclass(frozen=True, slots=True)
class Stat:
    """The fields of /proc/PID/stat that identify a process."""

    state: str
    session: int
    start_time: int
    """Field 22: clock ticks between boot and the process's start."""

    @property
    def dead(self) -> bool:
        """A zombie is dead: init may reap it seconds later."""
        return self.state in {"Z", "X", "x"}

    @property
    def started_boot(self) -> float:
        return self.start_time / TICKS_PER_SECOND


@dataclass(frozen=True, slots=True)
class Marked:
    """A process that carries our markers in its environment."""

    pid: int
    stat: Stat
    environ: dict[str, str]


def pids() -> tuple[int, ...]:
    """Every process of the host, at this moment."""
    return tuple(int(name) for name in os.listdir(PROC) if name.isdigit())  # noqa: PTH208


def stat_of(pid: int) -> Stat | None:
    """None when there is no such process."""
    try:
        raw = (PROC / str(pid) / "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name stands in parentheses, and may itself hold spaces and parentheses.
    fields = raw[raw.rindex(b")") + 2 :].split()
    return Stat(state=fields[0].decode(), session=int(fields[3]), start_time=int(fields[19]))


def markers_of(pid: int) -> dict[str, str]:
    """Our variables in a process's environment; empty when it is gone or not ours to read."""
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
    """Every living process that carries our markers. About 20 µs a process of the host."""
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
        with contextlib.suppress(OSError):  # closed meanwhile, or of a kind that cannot be asked
            found = (PROC / str(pid) / "fd" / name).stat()
            if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                return True
    return False
