"""Times as people write and read them: `2h` from now, or a time with its offset."""

from __future__ import annotations

import re
from datetime import datetime

from reconciler.cli.terminal import age
from reconciler.errors import RequestRefused
from reconciler.now import in_utc

DURATION = re.compile(r"^([1-9][0-9]{0,7})([smhd])$")
RFC3339 = re.compile(
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})$"
)
SECONDS_OF = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
LONGEST = 366 * 86_400.0
"""Seconds; the same limit as in the control API."""
SHOWN = 40
"""Characters of the argument that an error repeats."""


def seconds_until(given: str, now: float) -> float:
    """Seconds from `now` (unix time) until the given time. Raises RequestRefused."""
    if found := DURATION.fullmatch(given):
        seconds = float(int(found[1]) * SECONDS_OF[found[2]])
    elif RFC3339.fullmatch(given):
        seconds = _moment(given) - now
    else:
        raise _refused(given, "is neither a duration nor a time")
    if seconds <= 0:
        raise _refused(given, "is in the past")
    if seconds > LONGEST:
        raise _refused(given, "is more than a year away")
    return seconds


def _moment(given: str) -> float:
    try:
        return datetime.fromisoformat(given.upper()).timestamp()
    except (ValueError, OverflowError):
        raise _refused(given, "is not a valid time") from None


def _refused(given: str, why: str) -> RequestRefused:
    shown = given if len(given) <= SHOWN else given[:SHOWN] + "…"
    return RequestRefused(
        f'--until "{shown}" {why}', hint="write 2h, 3d or 2026-07-21T06:00:00+02:00"
    )


def since(wall: float, now: float) -> str:
    """`since Jul 21 14:02, 4 h ago`."""
    return f"since {_local(wall)}, {age(now - wall)} ago"


def until(wall: float, now: float) -> str:
    """`until Jul 21 14:02, in 4 h`."""
    left = f"in {age(wall - now)}" if wall > now else "now"
    return f"until {_local(wall)}, {left}"


def _local(wall: float) -> str:
    return in_utc(wall).astimezone().strftime("%b %d %H:%M")
