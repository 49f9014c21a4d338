"""Reads images again for a person or in the background, and records what rotted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import replace

from reconciler.engine.interfaces import Adapters
from reconciler.model.store_status import ImageCheck, ImageStatus

log = logging.getLogger(__name__)

PROGRESS = 0.5
"""Seconds between two words on how far a reading is."""
UNHURRIED = 1e12
"""Bytes per second for a person who waits: as fast as the disk can."""

Rotten = Callable[[ImageCheck], Awaitable[None]]


class ImageChecks:
    """One person's reading at a time: the next one waits for its end."""

    def __init__(self, adapters: Adapters, rotten: Rotten) -> None:
        """`rotten` records an image whose bytes are not those that were made."""
        self._adapters = adapters
        self._rotten = rotten
        self._turn = asyncio.Lock()

    async def read_all(self, images: Iterable[ImageStatus]) -> AsyncGenerator[ImageCheck, None]:
        """How far each is, and how it ended."""
        wanted = tuple(images)
        async with self._turn:
            for image in wanted:
                async with contextlib.aclosing(self._follow(image)) as steps:
                    async for step in steps:
                        yield replace(step, images=len(wanted))

    async def _follow(self, image: ImageStatus) -> AsyncGenerator[ImageCheck, None]:
        far = [0]

        def progress(size: int) -> None:
            far[0] = size

        reading = asyncio.create_task(self.read(image.key, UNHURRIED, progress))
        try:
            while not reading.done():
                yield ImageCheck(image.key, image.title, image.size_bytes, far[0])
                await asyncio.wait({reading}, timeout=PROGRESS)
            yield replace(reading.result(), title=image.title)
        finally:
            reading.cancel()
            await asyncio.wait({reading})

    async def read(
        self, key: str, bytes_per_second: float, progress: Callable[[int], None] = lambda _: None
    ) -> ImageCheck:
        """Read one image again, count the result, and record an image that rotted."""
        check = await self._adapters.inventory.read_again(
            key, bytes_per_second=bytes_per_second, progress=progress
        )
        self._adapters.meter.image_checked(check.result)
        if check.result == "rotten":
            log.error(
                "an image rotted in the store", extra={"fields": {"key": key, "why": check.why}}
            )
            await self._rotten(check)
        return check
