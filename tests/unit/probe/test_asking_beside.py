"""Changed checks, asked of a guest beside its present ones: two counts that know nothing of each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from reconciler.clock import SystemClock
from reconciler.model.checks import HttpCheck
from reconciler.model.health import CheckAnswer, ProbePlan
from reconciler.model.names import InstanceId, VMName
from reconciler.probe.prober import GuestProber
from tests.eventually import eventually
from tests.unit.probe.servers import serving

pytestmark = pytest.mark.shows(fault=59)

WEB = InstanceId("web-g1-1")
QUICK = 0.02
NEVER = 3600.0


class Pages:
    """A web server: which paths answer, and how often each was asked for."""

    def __init__(self, *good: str) -> None:
        self.good = set(good)
        self.asked: dict[str, int] = {}

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split(b" ")[1].decode()
        self.asked[path] = self.asked.get(path, 0) + 1
        status = "200 OK" if path in self.good else "404 Not Found"
        writer.write(
            f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
        )
        await writer.drain()
        writer.close()


class Asked:
    """A prober, and the answers that metrics hear of."""

    def __init__(self) -> None:
        self.heard: list[CheckAnswer] = []
        self.prober = GuestProber(SystemClock(), lambda: None, self.heard.append)


@pytest.fixture
async def asked() -> AsyncIterator[Asked]:
    asked = Asked()
    yield asked
    await asked.prober.close()


def question(port: int, path: str, *, beside: bool = False, period: float = QUICK) -> ProbePlan:
    check = HttpCheck(port, path)
    return ProbePlan((check,), period, VMName("web"), question=path, beside=beside)


async def test_a_wrong_check_on_trial_leaves_the_counts_of_the_present_ones_alone(
    asked: Asked,
) -> None:
    pages = Pages("/old")
    async with serving(pages) as port:
        present, trial = question(port, "/old"), question(port, "/new", beside=True)
        asked.prober.watch({WEB: present}, {WEB: trial})
        await eventually(lambda: asked.prober.trials()[WEB].failures >= 3)
        await eventually(lambda: asked.prober.health()[WEB].rounds >= 3)
        assert asked.prober.health()[WEB].failures == 0
        assert "404" in asked.prober.trials()[WEB].detail
        assert not asked.prober.trials()[WEB].ever_passed


async def test_answers_to_checks_on_trial_are_in_no_metric_and_no_history(asked: Asked) -> None:
    async with serving(Pages("/old")) as port:
        present = question(port, "/old", period=NEVER)
        asked.prober.watch({WEB: present}, {WEB: question(port, "/new", beside=True)})
        await eventually(lambda: asked.prober.trials()[WEB].failures >= 3)
        assert {answer.result for answer in asked.heard} <= {"success"}
        assert {one.result for one in asked.prober.rounds(VMName("web"))} <= {"success"}


async def test_checks_that_become_the_present_ones_keep_their_counts_and_the_former_ones_end(
    asked: Asked,
) -> None:
    pages = Pages("/old", "/new")
    async with serving(pages) as port:
        trial = question(port, "/new", beside=True)
        asked.prober.watch({WEB: question(port, "/old")}, {WEB: trial})
        await eventually(lambda: asked.prober.trials()[WEB].rounds >= 2)
        counted = asked.prober.trials()[WEB]
        asked.prober.watch({WEB: replace(trial, beside=False)})
        after = asked.prober.health()[WEB]
        assert after.rounds >= counted.rounds
        assert after.passing_since == counted.passing_since
        assert asked.prober.trials() == {}
        before = pages.asked["/old"]
        await eventually(lambda: asked.prober.health()[WEB].rounds >= counted.rounds + 5)
        assert pages.asked["/old"] <= before + 1, "one round may have been under way"


async def test_what_was_answered_to_another_question_does_not_count(asked: Asked) -> None:
    async with serving(Pages("/old")) as port:
        asked.prober.watch({WEB: question(port, "/old")})
        await eventually(lambda: asked.prober.health()[WEB].ever_passed)
        asked.prober.watch({WEB: question(port, "/new", period=NEVER)})
        assert not asked.prober.health()[WEB].ever_passed


async def test_a_guest_that_serves_is_asked_changed_checks_one_after_the_other_and_not_eagerly(
    asked: Asked,
) -> None:
    pages = Pages("/old")
    async with serving(pages) as port:
        trial = question(port, "/new", beside=True, period=NEVER)
        asked.prober.watch({WEB: question(port, "/old")}, {WEB: trial})
        await eventually(lambda: asked.prober.trials()[WEB].rounds == 1)
        await eventually(lambda: asked.prober.health()[WEB].rounds >= 20)
        assert pages.asked["/new"] == 1
