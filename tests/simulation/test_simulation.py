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


@pytest.mark.parametrize(
    "seed",
    [
        203937,  # a VMM failed at its start: its guest has written nothing
        205446,  # a start failed after the VMM was up: the guest on trial must still announce itself
        212931,  # a handover failed half way, and so did leading back: the oracle knows both
        219113,  # as 205446: what was adopted on trial was healthy without a word
    ],
)
async def test_lives_that_found_a_fault_break_no_law_any_more(seed: int) -> None:
    await Story(seed).live()


@pytest.mark.shows(promise=16)
async def test_a_seed_replays_its_life_to_the_last_call() -> None:
    lives = [Story(41), Story(41)]
    for life in lives:
        await life.live()
    once, again = (life.world for life in lives)
    assert once.faults.calls == again.faults.calls
    assert once.ledger.history == again.ledger.history
