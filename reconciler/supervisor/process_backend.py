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
from reconciler.supervisor.spawn import Held


class Backend(Protocol):
    """What keeps the processes. `folder` is that of one VM, `root` that of all."""

    async def find_all(self, root: Path) -> list[tuple[Path, Finding]]:
        """The same of all folders. Raises SupervisorError when nobody can be asked."""
        ...

    async def find(self, folder: Path) -> Finding:
        """Whose guest runs in a folder, or did last. Raises SupervisorError as above."""
        ...

    async def spawn(self, folder: Path, machine: Machine, launch: Launch) -> Held:
        """Start a VMM that holds the VM's lock. Raises GuestConflict or SupervisorError."""
        ...

    async def signal(self, held: Held, number: int) -> None: ...

    async def press(self, held: Held, folder: Path, button: Sequence[str], seconds: float) -> None:
        """Have a command ask the guest to end, with no more rights than the guest has.

        Answers when it was told, or after `seconds`. Raises SupervisorError.
        """
        ...

    async def exit_of(self, held: Held) -> Exit:
        """How a process ended that has ended; its pidfd is still open."""
        ...

    async def end_rest(self, held: Held, folder: Path) -> None:
        """End what a VMM that is gone left behind of itself: it may hold the lock, and is no guest.

        Never raises: what cannot be ended now is found again.
        """
        ...

    async def traffic(self, held: Held) -> NetworkTraffic | None:
        """What a guest received and sent; None where nobody counts it. Raises SupervisorError."""
        ...

    async def forget(self, folder: Path, instance: InstanceId) -> None: ...

    async def bound_logs(self, folders: list[Path], most: int) -> list[str]:
        """Keep the logs within `most` bytes each; what went wrong, for people."""
        ...

    async def close(self) -> None: ...


P = ParamSpec("P")
T = TypeVar("T")

WORKERS = 4


class Threads:
    """For calls that block for some milliseconds."""

    def __init__(self) -> None:
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="supervisor")

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        call = functools.partial(work, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._workers, call)

    def close(self) -> None:
        self._workers.shutdown(wait=False)
