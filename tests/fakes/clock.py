"""Time that only the test moves."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from dataclasses import replace

from reconciler.now import Now


class FakeClock:
    """Time stands still until `advance`; sleepers wake in order."""

    def __init__(self, boot: float = 1000.0, wall: float = 1_700_000_000.0) -> None:
        self._now = Now(boot, wall, "boot-1")
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def now(self) -> Now:
        return self._now

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now.boot + seconds, next(self._order), future))
        await future

    def advance(self, seconds: float) -> None:
        self._now = replace(self._now, boot=self._now.boot + seconds, wall=self._now.wall + seconds)
        while self._sleepers and self._sleepers[0][0] <= self._now.boot:
            future = heapq.heappop(self._sleepers)[2]
            if not future.done():
                future.set_result(None)

    def step_wall(self, seconds: float) -> None:
        """As when somebody sets the clock, or NTP does."""
        self._now = replace(self._now, wall=self._now.wall + seconds)

    def reboot(self) -> None:
        number = int(self._now.boot_id.split("-")[1]) + 1
        self._now = Now(10.0, self._now.wall + 30.0, f"boot-{number}")
