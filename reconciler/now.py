"""Moments as values: one reading of the clock, and deadlines on the boot clock."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

EARLIEST = datetime(1, 1, 2, tzinfo=UTC).timestamp()
LATEST = datetime(9999, 12, 30, tzinfo=UTC).timestamp()
"""A day less than a calendar has, which no time zone passes."""


def in_utc(wall: float) -> datetime:
    """A unix time on the calendar; what lies outside of it, as commits may say, is at its end."""
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
    """A moment on the boot clock of one boot; void after a reboot, as the guests are."""

    boot: float
    boot_id: str

    def passed(self, now: Now) -> bool:
        return self.boot_id != now.boot_id or now.boot >= self.boot
