"""Reads the images of the store again in the background, slowly, each about once a week."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from reconciler.engine.image_checks import ImageChecks
from reconciler.engine.interfaces import Adapters
from reconciler.model.image import StoredImage

log = logging.getLogger(__name__)

WEEK = 7 * 86_400.0
"""Seconds after which an image is read again; when that was is remembered over restarts."""
LOOK = 600.0
"""Seconds between looks for an image that is due."""
PAUSE = 1.0
"""Seconds between two images."""


class Scrub:
    """`run` until cancelled."""

    def __init__(self, adapters: Adapters, checks: ImageChecks, bytes_per_second: float) -> None:
        self._adapters = adapters
        self._checks = checks
        self._bytes_per_second = bytes_per_second

    async def run(self) -> None:
        """Read what is due, one image after the other; a reading that fails is left for the next look."""
        clock = self._adapters.clock
        while True:
            stored = self._adapters.inventory.stored()
            key = next_due(stored, clock.now().wall)
            sound = key is not None and await self._read(key)
            await clock.sleep(PAUSE if sound else LOOK)

    async def _read(self, key: str) -> bool:
        """Whether it was read to its end; one that was not would be due again at once."""
        try:
            check = await self._checks.read(key, self._bytes_per_second)
        except Exception:  # no reason to end a daemon
            log.exception("reading image %s again failed in an unforeseen way", key)
            return False
        return check.result in ("sound", "rotten", "gone")


def next_due(stored: Mapping[str, StoredImage], wall: float) -> str | None:
    """The image that was read longest ago, if that is a week; making it counts as reading.

    A clock that was set back makes an image due that was read in the future.
    """
    seen = {
        image.key: max(image.checked_wall, image.made_wall)
        for image in stored.values()
        if image.kind != "runner" and not image.broken
    }
    due = [key for key, at in seen.items() if abs(wall - at) >= WEEK]
    return min(due, key=lambda key: (seen[key], key), default=None)
