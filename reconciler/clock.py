"""The clock: the only place that asks the system for the time."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Protocol

from reconciler.now import Now

BOOT_ID_PATH = Path("/proc/sys/kernel/random/boot_id")


class Clock(Protocol):
    def now(self) -> Now:
        """One reading of all clocks."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds."""
        ...


class SystemClock:
    """The host's clock."""

    def __init__(self) -> None:
        self._boot_id = BOOT_ID_PATH.read_text(encoding="ascii").strip()

    def now(self) -> Now:
        """One reading of the boot and wall clocks."""
        boot = time.clock_gettime(time.CLOCK_BOOTTIME)
        return Now(boot=boot, wall=time.time(), boot_id=self._boot_id)

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds."""
        await asyncio.sleep(seconds)
