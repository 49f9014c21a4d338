"""The interface between a supervisor and what runs its processes, and the threads for its blocking calls."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar

from reconciler.model.guest_reports import NetworkTraffic
from reconciler.model.machine import Launch, Machine
from reconciler.model.names import InstanceId
from reconciler.model.observed import Exit
from reconciler.supervisor.guest_discovery import Finding
from reconciler.supervisor.spawn import ProcessHandle


class Backend(Protocol):
    """Runs processes of guests. `folder` is that of one guest, `root` that of all."""

    async def find_all(self, root: Path) -> list[tuple[Path, Finding]]:
        """`find` for all folders below `root`. Raises SupervisorError if systemd does not answer."""
        ...

    async def find(self, folder: Path) -> Finding:
        """The guest that runs in a folder, or ran last. Raises SupervisorError as above."""
        ...

    async def spawn(self, folder: Path, machine: Machine, launch: Launch) -> ProcessHandle:
        """Start a VMM that holds the VM's lock. Raises GuestConflict or SupervisorError."""
        ...

    async def signal(self, held: ProcessHandle, number: int) -> None:
        """Send a signal to the VMM; does nothing if it ended. Raises SupervisorError."""
        ...

    async def press(
        self, held: ProcessHandle, folder: Path, button: Sequence[str], seconds: float
    ) -> None:
        """Run a command that asks the guest to shut down, with no more rights than the guest has.

        Returns when the request was sent, or after `seconds`. Raises SupervisorError.
        """
        ...

    async def exit_of(self, held: ProcessHandle) -> Exit:
        """The exit of a process that has ended; its pidfd is still open."""
        ...

    async def end_rest(self, held: ProcessHandle, folder: Path) -> None:
        """Kill helper processes of a VMM that ended, which may hold the lock.

        Never raises: what cannot be killed now is found again.
        """
        ...

    async def traffic(self, held: ProcessHandle) -> NetworkTraffic | None:
        """What a guest received and sent; None if it is not counted. Raises SupervisorError."""
        ...

    async def forget(self, folder: Path, instance: InstanceId) -> None:
        """Drop what is kept of a guest that ended."""
        ...

    async def bound_logs(self, folders: list[Path], most: int) -> list[str]:
        """Keep the logs within `most` bytes each. Returns problems as texts."""
        ...

    async def close(self) -> None:
        """Release threads and connections; guests keep running."""
        ...


P = ParamSpec("P")
T = TypeVar("T")

WORKERS = 4


class Threads:
    """Threads of the supervisor's own for short blocking calls: a start must not queue behind image builds."""

    def __init__(self) -> None:
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="supervisor")

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in a thread, and return its result."""
        call = functools.partial(work, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._workers, call)

    def close(self) -> None:
        """Accept no more calls; those under way end by themselves."""
        self._workers.shutdown(wait=False)
