"""Finds the guests that an earlier daemon started, and verifies each.

For each folder:

    does guest.json match a living process?
      yes: adopted
      no:  is the lock held?
             no:  dead, if guest.json names a guest
             yes: does a helper hold it that the guest of guest.json left behind?
                    yes: the helper is killed, and the guest is dead
                    no:  does a session leader with our markers hold it?
                           yes: adopted
                           no:  conflict
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path

from reconciler.errors import GuestConflict
from reconciler.host import layout
from reconciler.model.host_fault import host_fault
from reconciler.model.names import VMName
from reconciler.model.observed import Conflict, Exit, Process
from reconciler.supervisor import console, guest_file, lock, procfs
from reconciler.supervisor.guest_file import GuestFile, is_slot, owner
from reconciler.supervisor.spawn import ProcessHandle

ENVIRON_ATTEMPTS, ENVIRON_PAUSE = 200, 0.005
"""How often an empty environment is read again, and the pause in seconds."""


@dataclass(frozen=True, slots=True)
class EndedGuest:
    """A guest that ended while no daemon was running."""

    process: Process


ENDING_SIGNALS = (signal.SIGTERM, signal.SIGKILL)
"""Signals that people and the system send to end a VMM: its output is then not the reason for its end."""

Finding = ProcessHandle | EndedGuest | Conflict | None


class Adoption:
    """Examines folders of guests once. The host's processes are listed at most once, and only if needed."""

    def __init__(self, boot_id: str) -> None:
        self._boot_id = boot_id

    def find_all(self, root: Path) -> list[tuple[Path, Finding]]:
        """The finding for each guest folder below `root`. Blocks."""
        return [(folder, self.find(folder)) for folder in folders(root)]

    def find(self, folder: Path) -> Finding:
        """What runs, or ran last, in a folder. Errors become a Conflict. Blocks."""
        vm = owner(folder)
        try:
            return self._find(folder, vm)
        except GuestConflict as conflict:
            return Conflict(vm, str(conflict))
        except OSError as error:
            # A VM that waits for a person is better than one that is started twice.
            return Conflict(vm, f"cannot tell whether a guest runs: {error}")

    def _find(self, folder: Path, vm: VMName) -> Finding:
        known = guest_file.read(folder)
        if known is not None and (pidfd := self._verified(known)) is not None:
            return ProcessHandle(known.process(folder), pidfd)
        if lock.is_free(folder) or (known is not None and self._left_behind(folder, known)):
            lock.refuse_listeners(folder)
            return (
                None if known is None else EndedGuest(ended(known.process(folder), folder, Exit()))
            )
        return self._holder(folder) or Conflict(vm, stranger(folder))

    def _left_behind(self, folder: Path, known: GuestFile) -> bool:
        """Kill helpers of a guest that ended; returns whether that released the lock.

        A helper inherits the lock and the markers, but it is not the guest and serves nothing.
        """
        if known.boot_id != self._boot_id:
            return False
        return lock.kill_helpers(folder, known.instance) > 0 and lock.wait_until_free(folder)

    def _verified(self, known: GuestFile) -> int | None:
        """A pidfd of exactly the recorded process, or None.

        The pidfd is opened before the checks: if they match afterwards, it refers to that process.
        """
        if known.boot_id != self._boot_id:
            return None
        with contextlib.suppress(OSError):
            pidfd = os.pidfd_open(known.pid)
            stat = procfs.stat_of(known.pid)
            if (
                stat is not None
                and not stat.dead
                and stat.start_time == known.start_time
                and _markers(known.pid).get(procfs.INSTANCE) == known.instance
            ):
                return pidfd
            os.close(pidfd)
        return None

    def _holder(self, folder: Path) -> ProcessHandle | None:
        """A guest of ours that guest.json does not name, because the daemon died while starting it."""
        # The VMM leads its session. Helpers that it started have the same markers, but do not.
        candidates = [
            marked
            for marked in self._marked
            if marked.environ.get(procfs.FOLDER) == str(folder)
            and marked.stat.session == marked.pid
            and procfs.holds(marked.pid, layout.lock(folder))
        ]
        candidates.sort(key=lambda m: (m.stat.start_time, m.pid))
        for marked in candidates:
            number = marked.environ.get(procfs.GENERATION, "")
            if not (number.isascii() and number.isdigit()):
                continue
            found = GuestFile(
                instance=marked.environ[procfs.INSTANCE],
                generation=int(number),
                pid=marked.pid,
                start_time=marked.stat.start_time,
                started_boot=marked.stat.started_boot,
                boot_id=self._boot_id,
                hypervisor=marked.environ.get(procfs.HYPERVISOR, ""),
            )
            if (pidfd := self._verified(found)) is not None:
                process = found.process(folder)
                with contextlib.suppress(
                    OSError
                ):  # without the file it is found the same way next time
                    guest_file.write(folder, process, self._boot_id)
                return ProcessHandle(process, pidfd)
        return None

    @functools.cached_property
    def _marked(self) -> tuple[procfs.Marked, ...]:
        return tuple(procfs.marked_processes())


def _markers(pid: int) -> dict[str, str]:
    """The markers of a process that may be in the middle of execve(2).

    The call is reported as done a moment before the new environment can be read.
    """
    for _ in range(ENVIRON_ATTEMPTS):
        if found := procfs.markers_of(pid):
            return found
        time.sleep(ENVIRON_PAUSE)
    return {}


def ended(process: Process, folder: Path, how: Exit) -> Process:
    """The process with its exit, the end of its console and, if it was the host's fault, that fault."""
    words = console.last_words(folder, process.instance)
    by_itself = how.status != 0 and how.signal not in ENDING_SIGNALS and not words.panicked
    fault = host_fault(words.vmm) if by_itself and not words.reported else ""
    end = Exit(
        how.status, how.signal, words.panicked, words.lines, words.reported, fault, words.damaged
    )
    return replace(process, exit=end)


def folders(root: Path) -> list[Path]:
    """Folders of guests below `root`, without those whose names are not of a VM. Raises OSError."""
    try:
        with os.scandir(root) as entries:
            found = [Path(e.path) for e in entries if e.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    return sorted(filter(is_slot, found))


def stranger(folder: Path) -> str:
    """A text naming the processes that hold the lock."""
    holders = [pid for pid in procfs.pids() if procfs.holds(pid, layout.lock(folder))]
    who = ", ".join(f"process {pid}" for pid in holders) or "a process that cannot be seen"
    return f"{who} holds {layout.lock(folder)} and is not a guest of ours"
