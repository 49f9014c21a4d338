"""Taps of guests in bridges of the host, behind the engine's interface: in a thread, with deadlines."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from reconciler.errors import DriverError
from reconciler.model.machine import Tap
from reconciler.model.names import VMName
from reconciler.model.observed import Links
from reconciler.vmm import netlink as links
from reconciler.vmm.netlink import Owner

log = logging.getLogger(__name__)

T = TypeVar("T")
DEADLINE = 10.0
"""Seconds for one call; the kernel answers in milliseconds unless its network lock is held."""


def mark_of(state: Path) -> str:
    """How taps of this state directory are marked; the VM's name follows."""
    return f"microvm-reconciler {hashlib.sha256(str(state).encode()).hexdigest()[:12]} "


class BridgedTaps:
    """Makes taps for who may open them. `executor` runs what blocks, in the namespace meant."""

    def __init__(self, state: Path, owner: Owner, executor: Executor | None = None) -> None:
        self._mark = mark_of(state)
        self._owner = owner
        self._executor = executor or ThreadPoolExecutor(1, "taps")

    async def look(self) -> Links:
        try:
            return await self._run(partial(links.look, self._mark, self._owner), "the interfaces")
        except DriverError as error:
            log.warning("taps", extra={"fields": {"error": str(error)}})
            return Links(hindrance=str(error))

    async def make(self, vm: VMName, taps: Sequence[Tap]) -> None:
        for tap in taps:
            await self._run(partial(links.make, self._mark, vm, tap, self._owner), tap.name)

    async def plug(self, vm: VMName, taps: Sequence[Tap]) -> None:
        for tap in taps:
            await self._run(partial(links.plug, self._mark, vm, tap), tap.name)

    async def drop(self, names: Sequence[str]) -> None:
        for name in names:
            await self._run(partial(links.drop, self._mark, name), name)

    async def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], T], what: str) -> T:
        try:
            async with asyncio.timeout(DEADLINE):
                return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        except TimeoutError as error:
            raise DriverError(
                f"{what}: the kernel did not answer within {DEADLINE:g} s", kind="timeout"
            ) from error
        except OSError as error:
            raise DriverError(f"{what}: {error.strerror or error}", kind="network") from error


class NoTaps:
    """Where the config allows no bridge: nothing is looked at, and nothing made."""

    async def look(self) -> Links:
        return Links(hindrance="policy.bridges of the config allows no bridge")

    async def make(self, vm: VMName, taps: Sequence[Tap]) -> None:
        if taps:
            raise DriverError(f"{vm}: policy.bridges of the config allows none", kind="network")

    async def plug(self, vm: VMName, taps: Sequence[Tap]) -> None:
        await self.make(vm, taps)

    async def drop(self, names: Sequence[str]) -> None:
        pass

    async def close(self) -> None:
        pass
