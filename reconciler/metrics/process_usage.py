"""What each guest's process takes of the host, read from /proc at every scrape."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from reconciler.model.status import VMStatus

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
SAME_START = 5.0
"""Seconds by which two clocks' ideas of one start may differ: a pid of another start is another process."""
MOST = 4096

# Places in /proc/PID/stat after the name, which may hold anything but ends with the last bracket.
USER, SYSTEM, START, RESIDENT = 11, 12, 19, 21


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process takes: totals since it began, and the memory that it has now."""

    cpu_seconds: float
    resident_bytes: int
    read_bytes: int | None
    """None: another user's process, and we may not know."""
    written_bytes: int | None


def usages(vms: Iterable[VMStatus]) -> dict[str, Usage]:
    """By VM, for those with a guest whose process is still the one that the status means."""
    running = [vm for vm in vms if vm.pid is not None and vm.started_wall is not None]
    if not running:
        return {}
    booted = boot_wall()
    found: dict[str, Usage] = {}
    for vm in running:
        usage = usage_of(vm.pid or 0, vm.started_wall or 0.0, booted)
        if usage is not None:
            found[vm.name] = usage
    return found


def usage_of(pid: int, started_wall: float, booted: float) -> Usage | None:
    """None if `pid` is another process by now. Both moments are Unix seconds: its start, the host's boot."""
    stat = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    if not stat or abs(booted + int(stat[START]) / TICKS - started_wall) > SAME_START:
        return None
    moved = dict(line.split(b": ") for line in _read(f"/proc/{pid}/io").splitlines())
    return Usage(
        cpu_seconds=(int(stat[USER]) + int(stat[SYSTEM])) / TICKS,
        resident_bytes=int(stat[RESIDENT]) * PAGE,
        read_bytes=int(moved[b"read_bytes"]) if moved else None,
        written_bytes=int(moved[b"write_bytes"]) if moved else None,
    )


def boot_wall() -> float:
    """When this host booted, by the wall clock as it is now; it moves when that clock is set."""
    for line in Path("/proc/stat").read_bytes().splitlines():
        if line.startswith(b"btime "):
            return float(line.split()[1])
    return 0.0


def _read(path: str) -> bytes:
    """A small file of /proc; empty when it is gone or not for us."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, MOST)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
