"""Finding the guests that an earlier daemon started: verified, never guessed.

For each folder:

    guest.json fits a living process?
      yes: adopted
      no:  is the lock held?
             no:  dead, if guest.json names a guest
             yes: did the guest of guest.json leave a helper behind, that holds it?
                    yes: the helper is ended, and the guest is dead
                    no:  does a process with our markers hold it, that leads its session?
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
from reconciler.supervisor.spawn import Held

LOOKS, LOOK_EVERY = 200, 0.005
"""How often, and after how many seconds, an environment is read again that was still empty."""


@dataclass(frozen=True, slots=True)
class Dead:
    """A guest that ended while nobody looked."""

    process: Process


TOLD = (signal.SIGTERM, signal.SIGKILL)
"""Signals by which somebody ends a VMM: what it had said before is not why it ended."""

Finding = Held | Dead | Conflict | None


class Adoption:
    """One look at all folders; the processes of the host are listed at most once, if at all."""

    def __init__(self, boot_id: str) -> None:
        self._boot_id = boot_id

    def look_at_all(self, root: Path) -> list[tuple[Path, Finding]]:
        return [(folder, self.look(folder)) for folder in folders(root)]

    def look(self, folder: Path) -> Finding:
        vm = owner(folder)
        try:
            return self._look(folder, vm)
        except GuestConflict as conflict:
            return Conflict(vm, str(conflict))
        except OSError as error:
            # Better a VM that waits for a person than one that is started twice.
            return Conflict(vm, f"cannot tell whether a guest runs: {error}")

    def _look(self, folder: Path, vm: VMName) -> Finding:
        known = guest_file.read(folder)
        if known is not None and (pidfd := self._verified(known)) is not None:
            return Held(known.process(folder), pidfd)
        if lock.is_free(folder) or (known is not None and self._left_behind(folder, known)):
            lock.refuse_listeners(folder)
            return None if known is None else Dead(ended(known.process(folder), folder, Exit()))
        return self._holder(folder) or Conflict(vm, stranger(folder))

    def _left_behind(self, folder: Path, known: GuestFile) -> bool:
        """End what a guest that is gone left behind; whether that freed the lock.

        A helper that holds the lock is not the guest, however much it looks like it: nothing serves.
        """
        if known.boot_id != self._boot_id:
            return False
        return lock.kill_helpers(folder, known.instance) > 0 and lock.wait_until_free(folder)

    def _verified(self, known: GuestFile) -> int | None:
        """A pidfd for exactly the process that is meant, else None.

        The pidfd comes first: what is read afterwards and fits must belong to that process.
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

    def _holder(self, folder: Path) -> Held | None:
        """Our guest, although guest.json does not lead to it: the daemon died while starting it."""
        # The VMM leads its session; helpers that it started carry the same markers, and are no guests.
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
                with contextlib.suppress(OSError):  # it is found the same way next time
                    guest_file.write(folder, process, self._boot_id)
                return Held(process, pidfd)
        return None

    @functools.cached_property
    def _marked(self) -> tuple[procfs.Marked, ...]:
        return tuple(procfs.marked_processes())


def _markers(pid: int) -> dict[str, str]:
    """Of a process that is known by pid and start, and may be in the middle of its exec(2).

    That is told as done a moment before the new environment can be read.
    """
    for _ in range(LOOKS):
        if found := procfs.markers_of(pid):
            return found
        time.sleep(LOOK_EVERY)
    return {}


def ended(process: Process, folder: Path, how: Exit) -> Process:
    """The same guest, dead, with its last words."""
    words = console.last_words(folder, process.instance)
    by_itself = how.status != 0 and how.signal not in TOLD and not words.panicked
    fault = host_fault(words.vmm) if by_itself and not words.reported else ""
    end = Exit(how.status, how.signal, words.panicked, words.lines, words.reported, fault)
    return replace(process, exit=end)


def folders(root: Path) -> list[Path]:
    """The folders in which guests of VMs live, those with odd names left out."""
    try:
        with os.scandir(root) as entries:
            found = [Path(e.path) for e in entries if e.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    return sorted(filter(is_slot, found))


def stranger(folder: Path) -> str:
    """Who holds the lock, for people."""
    holders = [pid for pid in procfs.pids() if procfs.holds(pid, layout.lock(folder))]
    who = ", ".join(f"process {pid}" for pid in holders) or "a process that cannot be seen"
    return f"{who} holds {layout.lock(folder)} and is not a guest of ours"
