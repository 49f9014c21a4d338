"""A sample of lives; `./dev simulate` runs as many as asked for."""

from __future__ import annotations

import pytest

from tests.simulation.story import Story

pytestmark = [pytest.mark.shows(fault=28), pytest.mark.shows(fault=86)]


@pytest.mark.shows(law=13)
@pytest.mark.parametrize("seed", range(60))
async def test_no_life_breaks_a_law(seed: int) -> None:
    tale = await Story(seed).live()
    assert tale.rollouts > 0


@pytest.mark.parametrize("seed", range(1000, 1020))
async def test_a_life_without_faults_breaks_no_law_either(seed: int) -> None:
    tale = await Story(seed, faults=0.0).live()
    assert tale.faults == 0


async def test_the_oracle_of_data_knows_a_vmm_that_failed_before_its_guest_wrote() -> None:
    await Story(203937).live()


@pytest.mark.shows(promise=16)
async def test_a_seed_replays_its_life_to_the_last_call() -> None:
    lives = [Story(41), Story(41)]
    for life in lives:
        await life.live()
    once, again = (life.world for life in lives)
    assert once.faults.calls == again.faults.calls
    assert once.ledger.history == again.ledger.history
