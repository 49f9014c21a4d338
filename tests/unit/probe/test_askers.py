"""What every asker may rely on: a console that says what it is, a memory of the guest, and an end."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from reconciler.clock import SystemClock
from reconciler.model.checks import HttpCheck, ProcessCheck
from reconciler.model.guest_reports import ConsoleText
from reconciler.model.health import ProbePlan, ProbeResult
from reconciler.model.names import InstanceId
from reconciler.probe.asker import AskedGuest
from reconciler.probe.prober import GuestProber
from reconciler.probe.registry import ASKERS, Askers
from tests.eventually import eventually

WEB = InstanceId("web-g1-1")
QUICK = 0.01


class RememberingAsker:
    """Counts its questions in the guest's memory, and forgets nothing by itself."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    async def ask(self, check: Any, guest: AskedGuest) -> tuple[ProbeResult, str]:
        guest.memory[check] = guest.memory.get(check, 0) + 1
        self.counts.append(guest.memory[check])
        return "success", ""

    async def close(self) -> None:
        """It holds nothing."""


class ConsoleAsker:
    """Passes if the guest printed anything."""

    async def ask(self, _: Any, guest: AskedGuest) -> tuple[ProbeResult, str]:
        found = await guest.console()
        return ("success" if found.text else "failure"), ""

    async def close(self) -> None:
        """It holds nothing."""


@pytest.mark.parametrize(
    ("console", "answer"),
    [
        (ConsoleText("ready\n"), ("success", "")),
        (ConsoleText(""), ("failure", "")),
        (
            ConsoleText(unreadable="console.log: Input/output error"),
            ("error", "could not ask: console.log: Input/output error"),
        ),
    ],
)
async def test_a_console_that_cannot_be_read_is_no_failure_of_the_guest(
    console: ConsoleText, answer: tuple[ProbeResult, str]
) -> None:
    async def read(_: InstanceId) -> ConsoleText:
        return console

    askers = Askers({"process": ConsoleAsker})
    assert await askers.ask(ProcessCheck(), AskedGuest(WEB, read)) == answer
    assert (await askers.ask(ProcessCheck(), AskedGuest(WEB)))[0] == "error"


async def test_a_question_without_a_timeout_ends_all_the_same_and_is_no_fault_of_the_guest() -> (
    None
):
    async def hangs(_: InstanceId) -> ConsoleText:
        await asyncio.Event().wait()
        return ConsoleText()

    askers = Askers({"process": ConsoleAsker}, longest=0.01)
    answer = await askers.ask(ProcessCheck(), AskedGuest(WEB, hangs))
    assert answer == ("error", "could not ask within 0.01 s")


async def test_what_an_asker_keeps_of_a_guest_lasts_as_long_as_the_guest() -> None:
    asker, check = RememberingAsker(), HttpCheck(80)
    prober = GuestProber(SystemClock(), lambda: None, kinds={**ASKERS, "http": lambda: asker})
    prober.watch({WEB: ProbePlan((check,), QUICK)})
    await eventually(lambda: len(asker.counts) > 1)
    prober.watch({WEB: ProbePlan((check, replace(check, port=81)), QUICK)})
    known = len(asker.counts)
    await eventually(lambda: len(asker.counts) > known + 2)
    assert max(asker.counts) > known  # other checks beside it, and the same guest
    prober.watch({})
    prober.watch({WEB: ProbePlan((check,), QUICK)})
    before = len(asker.counts)
    await eventually(lambda: len(asker.counts) > before)
    assert asker.counts[before] == 1
    await prober.close()
