"""Finding and ending guests by pid: they outlive the daemon by design, so the program that starts a fleet must end it."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

GUEST_MARK = b"RECONCILER_VM="
"""Set by the supervisor in every VMM's environment: the VM's folder."""

SECOND = ".2"
"""Ends the name of the folder of a VM's second guest."""


@dataclass(frozen=True, slots=True)
class Found:
    """A live process that belongs to a folder, as /proc shows it."""

    pid: int
    vm: str
    """The VM whose guest it is; empty for helpers and daemons."""
    command: str


def processes_under(root: Path) -> list[Found]:
    """Live processes that have a path under `root` in their arguments or environment, or work there.

    This process and its ancestors are left out: a shell may well stand in that folder.
    """
    kept_out = ancestors()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in kept_out:
            continue
        with suppress(OSError):
            process = look_at(entry, os.fsencode(root))
            if process is not None:
                found.append(process)
    return sorted(found, key=lambda one: one.pid)


def guests_under(root: Path) -> list[Found]:
    return [process for process in processes_under(root) if process.vm]


def look_at(entry: Path, root: bytes) -> Found | None:
    if entry.joinpath("stat").read_bytes().rpartition(b")")[2].split()[0] in (b"Z", b"X"):
        return None  # dead, and only waits to be reaped
    command = entry.joinpath("cmdline").read_bytes().replace(b"\0", b" ").strip()
    environment = entry.joinpath("environ").read_bytes().split(b"\0")
    mark = next((item for item in environment if item.startswith(GUEST_MARK)), GUEST_MARK)
    folder = b""
    with suppress(OSError):
        folder = os.fsencode(entry.joinpath("cwd").readlink())
    inside = root + b"/"
    if not (
        inside in command
        or folder + b"/" == inside
        or folder.startswith(inside)
        or any(inside in item for item in environment)
    ):
        return None
    return Found(
        int(entry.name),
        Path(os.fsdecode(mark.removeprefix(GUEST_MARK))).name.removesuffix(SECOND),
        command.decode(errors="replace"),
    )


def ancestors() -> set[int]:
    pids, pid = {os.getpid()}, os.getppid()
    while pid > 1 and pid not in pids:
        pids.add(pid)
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            break
        pid = int(stat.rpartition(")")[2].split()[1])
    return pids


def end(pids: Iterable[int], grace: float = 5.0) -> list[int]:
    """SIGTERM, and after `grace` seconds SIGKILL. Returns the pids that survive both."""
    handles = {}
    for pid in pids:
        with suppress(ProcessLookupError):
            handles[pid] = os.pidfd_open(pid)
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            for handle in handles.values():
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(handle, number)
            until = time.monotonic() + grace
            while (alive := living(handles)) and time.monotonic() < until:
                # A pidfd is readable once its process ended, even before it is reaped.
                select.select([handles[pid] for pid in alive], [], [], 0.1)
            if not alive:
                return []
        return living(handles)
    finally:
        for handle in handles.values():
            os.close(handle)


def living(handles: dict[int, int]) -> list[int]:
    if not handles:
        return []
    gone, _, _ = select.select(list(handles.values()), [], [], 0)
    return [pid for pid, handle in handles.items() if handle not in gone]


def alive(pid: int) -> bool:
    """Whether the process lives; a zombie does not."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        return living({pid: handle}) == [pid]
    finally:
        os.close(handle)
