"""Images that somebody removes from the store of a daemon that runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.fleet import WEB
from tests.integration.harness import Harness, other_pids
from tests.integration.test_failing import POWER_OFF, break_web, condemned
from tests.wait import wait_until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(600),
    pytest.mark.shows(row=47),
    pytest.mark.shows(row=49),
]

NOTICED = 90.0
"""Seconds. Of a push it is seen at once; that an idle daemon looks too is shown in tests/fault, without waiting."""


def take_all_layers(fleet: Harness) -> list[Path]:
    """Remove every layer's image; those of the guests that run, for only what is wanted is built again."""
    images = sorted(fleet.stage.state.glob("layers/*/image"))
    told = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in fleet.fleet().pids().values()]
    used = [image for image in images if any(str(image).encode() in words for words in told)]
    assert used
    for image in images:
        image.unlink()
    return used


@pytest.mark.shows(promise=1)
def test_layers_that_vanished_are_there_again_before_anything_stops_and_no_other_guest_is_touched(
    fleet: Harness,
) -> None:
    before, served = fleet.fleet(), fleet.ask(WEB[0])
    taken = take_all_layers(fleet)
    script = f"{POWER_OFF}# a digest that no other test has condemned on this fleet\n"
    tried, after = condemned(fleet, break_web(fleet, script, WEB[0]))
    assert tried == WEB[0]
    assert set(other_pids(before, after)) == {tried}
    assert fleet.ask(tried) == served
    wait_until(lambda: all(image.exists() for image in taken), NOTICED, "the others are back too")
