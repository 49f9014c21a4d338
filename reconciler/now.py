"""One reading of the clock, as a value; the pure rooms know time only as this."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Now:
    """One reading of the clock.

    `boot` is CLOCK_BOOTTIME in seconds: it runs through suspend and ignores NTP steps, and is
    comparable only between readings with the same `boot_id`. `wall` is unix time, for people.
    """

    boot: float
    wall: float
    boot_id: str
