"""Any number that somebody takes for a time has a place on the calendar."""

from __future__ import annotations

import math
from zoneinfo import ZoneInfo

import pytest

from reconciler.now import in_utc

pytestmark = pytest.mark.shows(fault=101)

FAR = (1_795_970_300_000.0, 1e18, 1e308, math.inf)


@pytest.mark.parametrize("wall", FAR)
def test_what_lies_behind_the_calendar_is_at_its_end(wall: float) -> None:
    assert in_utc(wall).year == 9999
    assert in_utc(-wall).year == 1
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
        assert in_utc(wall).astimezone(ZoneInfo(zone)).strftime("%b %d %H:%M")
        assert in_utc(-wall).astimezone(ZoneInfo(zone)).strftime("%b %d %H:%M")


def test_a_time_is_where_it_is() -> None:
    assert in_utc(1_700_000_000.5).isoformat() == "2023-11-14T22:13:20.500000+00:00"
    assert in_utc(math.nan).year == 1970
