"""Moments as values: one reading of the clock, and deadlines on the boot clock."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

EARLIEST = datetime(1, 1, 2, tzinfo=UTC).timestamp()
LATEST = datetime(9999, 12, 30, tzinfo=UTC).timestamp()
"""A day inside the limits of datetime, so that no time zone exceeds them."""


def in_utc(wall: float) -> datetime:
    """A unix time as datetime; times out of its range, as in some commits, become its first or last day."""
    if math.isnan(wall):
        return datetime.fromtimestamp(0, UTC)
    return datetime.fromtimestamp(min(max(wall, EARLIEST), LATEST), UTC)


@dataclass(frozen=True, slots=True)
class Now:
    """One reading of the clock.

    `boot` is CLOCK_BOOTTIME in seconds: it runs through suspend and ignores NTP steps, and is
    comparable only between readings with the same `boot_id`. `wall` is unix time, for people.
    """

    boot: float
    wall: float
    boot_id: str


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the boot clock of one boot. After a reboot it counts as passed: the guests ended too."""

    boot: float
    boot_id: str

    def passed(self, now: Now) -> bool:
        """Whether the moment is past, or of an earlier boot."""
        return self.boot_id != now.boot_id or now.boot >= self.boot
