"""The local supervisor: guests as plain processes that outlive the daemon."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from reconciler.clock import Clock
from reconciler.model.guest_reports import NetworkTraffic
from reconciler.model.machine import Launch, Machine
from reconciler.model.names import InstanceId
from reconciler.model.observed import Exit, Process
from reconciler.supervisor import console, guest_file, lock
from reconciler.supervisor.guest_discovery import Adoption, Finding
from reconciler.supervisor.process_backend import Threads
from reconciler.supervisor.process_supervisor import ProcessSupervisor
from reconciler.supervisor.spawn import ProcessHandle, press, spawn


class Children:
    """Guests as child processes, which later daemons find by their markers."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._threads = Threads()

    async def find_all(self, root: Path) -> list[tuple[Path, Finding]]:
        return await self._threads.run(self._adoption().find_all, root)

    async def find(self, folder: Path) -> Finding:
        return await self._threads.run(self._adoption().find, folder)

    async def spawn(self, folder: Path, machine: Machine, launch: Launch) -> ProcessHandle:
        boot_id = self._clock.now().boot_id
        return await self._threads.run(spawn, folder, machine, launch, boot_id)

    async def signal(self, held: ProcessHandle, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(held.pidfd, number)

    async def press(
        self, held: ProcessHandle, folder: Path, button: Sequence[str], seconds: float
    ) -> None:
        await press(held.process.pid, folder, button, seconds)

    async def exit_of(self, held: ProcessHandle) -> Exit:
        return _reap(held.pidfd)

    async def end_rest(self, held: ProcessHandle, folder: Path) -> None:
        with contextlib.suppress(OSError):
            await self._threads.run(lock.kill_helpers, folder, held.process.instance)

    async def traffic(self, held: ProcessHandle) -> NetworkTraffic | None:  # noqa: ARG002 - it has no cgroup of its own
        return None

    async def forget(self, folder: Path, instance: InstanceId) -> None:
        with contextlib.suppress(
            OSError
        ):  # the next daemon finds it ended again, and forgets it again
            await self._threads.run(guest_file.remove, folder, instance)

    async def bound_logs(self, folders: list[Path], most: int) -> list[str]:
        return await self._threads.run(console.bound_all, folders, most)

    async def close(self) -> None:
        self._threads.close()

    def _adoption(self) -> Adoption:
        return Adoption(self._clock.now().boot_id)


class LocalSupervisor(ProcessSupervisor):
    """Guests as plain processes; see `ProcessSupervisor` for the arguments."""

    def __init__(
        self,
        root: Path,
        clock: Clock,
        wake: Callable[[], None],
        on_change: Callable[[Process], None] = lambda _: None,
        console_bytes: int = console.MOST_BYTES,
    ) -> None:
        super().__init__(root, clock, wake, Children(clock), on_change, console_bytes)


def _reap(pidfd: int) -> Exit:
    """How a child of ours ended; empty for a process of an earlier daemon, which is not our child."""
    try:
        info = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return Exit()
    if info is None:
        return Exit()
    if info.si_code == os.CLD_EXITED:
        return Exit(status=info.si_status)
    return Exit(signal=info.si_status)
