"""Time as a value: deadlines on the boot clock, wall time for people."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

BOOT_ID_PATH = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Now:
    """One reading of the clock.

    `boot` is CLOCK_BOOTTIME in seconds: it runs through suspend and ignores NTP steps, and is
    comparable only between readings with the same `boot_id`. `wall` is unix time, for people.
    """

    boot: float
    wall: float
    boot_id: str


class Clock(Protocol):
    def now(self) -> Now: ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The host's clock."""

    def __init__(self) -> None:
        self._boot_id = BOOT_ID_PATH.read_text(encoding="ascii").strip()

    def now(self) -> Now:
        boot = time.clock_gettime(time.CLOCK_BOOTTIME)
        return Now(boot=boot, wall=time.time(), boot_id=self._boot_id)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
