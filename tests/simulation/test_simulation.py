"""A sample of lives; `./dev simulate` runs as many as asked for."""

from __future__ import annotations

import pytest

from tests.simulation.story import Story


@pytest.mark.parametrize("seed", range(60))
async def test_no_life_breaks_a_law(seed: int) -> None:
    tale = await Story(seed).live()
    assert tale.rollouts > 0


@pytest.mark.parametrize("seed", range(1000, 1020))
async def test_a_life_without_faults_breaks_no_law_either(seed: int) -> None:
    tale = await Story(seed, faults=0.0).live()
    assert tale.faults == 0
