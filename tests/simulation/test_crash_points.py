"""Every point alone, and a few pairs; `./dev crash` runs many pairs."""

from __future__ import annotations

import random

import pytest

from tests.simulation import crash_points

pytestmark = [pytest.mark.shows(row=1), pytest.mark.shows(row=2)]

NUMBER = crash_points.calls()


@pytest.mark.parametrize("at", range(NUMBER))
async def test_death_before_or_after_any_call_changes_nothing_in_the_end(at: int) -> None:
    for death in crash_points.DEATHS:
        await crash_points.run([(at, death)])


@pytest.mark.parametrize("seed", range(30))
async def test_death_while_recovering_from_a_death_changes_nothing_either(seed: int) -> None:
    draw = random.Random(seed)  # noqa: S311
    await crash_points.run(
        [(draw.randrange(NUMBER + 40), draw.choice(crash_points.DEATHS)) for _ in range(2)]
    )
