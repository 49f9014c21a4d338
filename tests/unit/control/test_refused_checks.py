"""Refused checks, as `history` and the page's commits tell of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.cli.generations import show_history
from reconciler.cli.terminal import console
from reconciler.control.describe import history_answer
from reconciler.control.page.stories import Stories
from reconciler.model.check_trial import BlockedChecks
from reconciler.model.event import Event
from reconciler.model.names import Digest, GenerationNumber, Revision, VMName
from reconciler.model.record import VMRecord
from tests.unit.ledger.ledger_samples import WALL, vm_record

pytestmark = pytest.mark.shows(fault=60)

ONE = GenerationNumber(1)
WRONG = Revision("b" * 40)


def refused(*, withdrawn: bool = False) -> VMRecord:
    block = BlockedChecks(
        Digest("k" * 64), ONE, WRONG, "not passed: GET :8080/x -> 404", 1, WALL, WALL, withdrawn
    )
    return replace(vm_record("web"), blocked_checks=(block,))


def shown(record: VMRecord) -> str:
    out = console()
    with out.capture() as captured:
        show_history(history_answer(record), out, WALL + 60.0)
    return captured.get()


def test_history_tells_of_refused_checks_with_their_revision_and_the_answer() -> None:
    told = shown(refused())
    assert f"the changed checks of revision {WRONG[:8]}" in told
    assert "GET :8080/x -> 404" in told


def test_history_says_when_refused_checks_are_no_longer_asked_for() -> None:
    assert "no longer asked for" in shown(refused(withdrawn=True))


def test_refused_checks_are_told_of_the_commit_that_brought_them_and_not_of_the_generations() -> (
    None
):
    stories, made = Stories(), Revision("a" * 40)
    web = VMName("web")
    stories.take(
        [
            Event("generation-created", "web: 1", WALL, vm=web, generation=ONE, revision=made),
            Event("checks-condemned", "web: 404", WALL, vm=web, generation=ONE, revision=WRONG),
        ]
    )
    assert set(stories.names(10)) == {made, WRONG}
    assert stories._stories[WRONG].failed == {"web": "web: 404"}
    assert not stories._stories[made].failed
