"""Reads the images of the store again in the background, slowly: each about once a week, and at once when a guest says that one is damaged."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from reconciler.engine.image_checks import ImageChecks
from reconciler.engine.interfaces import Adapters
from reconciler.model.image import StoredImage
from reconciler.planning.intake.damage import suspects

log = logging.getLogger(__name__)

WEEK = 7 * 86_400.0
"""Seconds after which an image is read again; when that was is remembered over restarts."""
LOOK = 600.0
"""Seconds between looks for an image that is due."""
HEED = 5.0
"""Seconds between looks for one that a guest says to be damaged."""
PAUSE = 1.0
"""Seconds between two images."""


class Scrub:
    """`run` until cancelled."""

    def __init__(
        self,
        adapters: Adapters,
        checks: ImageChecks,
        bytes_per_second: float,
        *,
        weekly: bool = True,
    ) -> None:
        """`weekly`: whether images are read that no guest says to be damaged."""
        self._adapters = adapters
        self._checks = checks
        self._bytes_per_second = bytes_per_second
        self._weekly = weekly
        self._left: dict[str, float] = {}
        """Images whose reading failed, with the boot time before which it is not tried again."""

    async def run(self) -> None:
        """Read what is due, one image after the other; a reading that fails is left for the next look."""
        clock = self._adapters.clock
        look = 0.0
        while True:
            now = clock.now()
            key = self._suspected(now.boot)
            if key is None and self._weekly and now.boot >= look:
                key = next_due(self._adapters.inventory.stored(), now.wall)
                look = now.boot + LOOK if key is None else look
            read = key is not None and await self._read(key)
            if key is not None and not read:
                self._left[key] = look = clock.now().boot + LOOK
            await clock.sleep(PAUSE if read else HEED)

    def _suspected(self, boot: float) -> str | None:
        """The next image that a guest says to be damaged, and that was not read since."""
        adapters = self._adapters
        since = suspects(adapters.ledger.record().vms, adapters.images.parts())
        if not since:
            return None
        stored = adapters.inventory.stored()
        return next(
            (
                key
                for key in sorted(since.keys() & stored.keys())
                if not stored[key].broken and self._left.get(key, 0.0) <= boot
                if max(stored[key].checked_wall, stored[key].made_wall) < since[key]
            ),
            None,
        )

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
