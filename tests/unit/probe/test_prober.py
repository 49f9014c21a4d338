"""The prober over the life of guests: who is asked, how often, and who is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from reconciler.clock import SystemClock
from reconciler.model.checks import CheckSpec, HttpCheck, ProcessCheck, TcpCheck
from reconciler.model.health import ProbeCounts, ProbePlan
from reconciler.model.names import GenerationNumber, InstanceId, VMName
from reconciler.probe import http
from reconciler.probe.prober import GuestProber
from tests.eventually import eventually
from tests.unit.probe import servers
from tests.unit.probe.servers import serving

pytestmark = pytest.mark.shows(row=43)

WEB = InstanceId("web-g1-1")
DB = InstanceId("db-g1-1")
QUICK = 0.02
NEVER = 3600.0


class Loop:
    """A prober, and how often it woke somebody."""

    def __init__(self) -> None:
        self.wakes = 0
        self.prober = GuestProber(SystemClock(), self._wake)

    def _wake(self) -> None:
        self.wakes += 1

    def watch(self, *checks: CheckSpec, period: float = QUICK) -> None:
        self.prober.watch({WEB: ProbePlan(checks, period)})

    @property
    def web(self) -> ProbeCounts:
        return self.prober.health()[WEB]


@pytest.fixture
async def loop() -> AsyncIterator[Loop]:
    loop = Loop()
    yield loop
    await loop.prober.close()


class Service:
    """A service whose health the test decides."""

    def __init__(self) -> None:
        self.status = "200 OK"
        self.asked = 0
        self.hangs = False
        self.open = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        self.open += 1
        try:
            if self.hangs:
                await reader.read()
                await reader.read()
            else:
                await servers.http(self.status)(reader, writer)
        finally:
            self.open -= 1


async def test_a_guest_is_asked_at_once_and_its_first_pass_wakes_the_loop(loop: Loop) -> None:
    async with serving(Service()) as port:
        loop.watch(HttpCheck(port), period=NEVER)
        await eventually(lambda: loop.web.ever_passed)
    assert loop.wakes == 1
    assert loop.web.last[0].detail == f"GET :{port}/ -> 200"


async def test_a_guest_without_checks_passes_while_its_process_lives(loop: Loop) -> None:
    loop.prober.watch({WEB: ProbePlan((), NEVER), DB: ProbePlan((ProcessCheck(),), NEVER)})
    await eventually(lambda: all(h.ever_passed for h in loop.prober.health().values()))


async def test_a_round_asks_all_checks_and_fails_by_one(loop: Loop) -> None:
    async with serving(Service()) as port:
        loop.watch(HttpCheck(port), TcpCheck(servers.a_free_port()))
        await eventually(lambda: loop.web.rounds > 0)
    assert [answer.result for answer in loop.web.last] == ["success", "failure"]
    assert loop.web.passing_since is None
    assert "refused" in loop.web.detail


async def test_a_guest_is_healthy_when_it_answers_by_its_own_id_and_not_when_another_does(
    loop: Loop,
) -> None:
    async with serving(servers.http(body=WEB)) as port:
        plan = ProbePlan((HttpCheck(port, expect_instance=True),), QUICK)
        loop.prober.watch({WEB: plan, DB: plan})
        await eventually(lambda: all(h.rounds > 1 for h in loop.prober.health().values()))
    assert loop.web.ever_passed
    assert not loop.prober.health()[DB].ever_passed
    assert f"from {WEB}, not from {DB}: another guest" in loop.prober.health()[DB].detail


async def test_each_flip_and_each_failure_wakes_the_loop_and_nothing_else_does(loop: Loop) -> None:
    service = Service()
    async with serving(service) as port:
        loop.watch(HttpCheck(port))
        await eventually(lambda: loop.web.rounds >= 5)
        assert loop.wakes == 1
        service.status = "503 Unavailable"
        await eventually(lambda: loop.web.failures >= 3)
        assert loop.wakes == 1 + loop.web.failures
        before = loop.wakes
        service.status = "200 OK"
        await eventually(lambda: loop.web.passing_since is not None)
        assert loop.wakes - before <= 2


async def test_a_guest_that_boots_is_asked_eagerly_and_wakes_the_loop_twice(loop: Loop) -> None:
    port = servers.a_free_port()
    loop.watch(HttpCheck(port), period=0.1)
    await eventually(lambda: loop.web.failures >= 5)
    assert loop.wakes == 1
    async with serving(Service(), port):
        await eventually(lambda: loop.web.ever_passed)
    assert loop.wakes == 2


async def test_connections_that_hang_do_not_hide_that_the_guest_has_come(loop: Loop) -> None:
    service = Service()
    service.hangs = True
    async with serving(service) as port:
        loop.watch(HttpCheck(port, timeout=30))
        await eventually(lambda: service.asked >= 3)
        service.hangs = False
        await eventually(lambda: loop.web.ever_passed, 5)
        await eventually(lambda: service.open == 0, 5)
    assert loop.web.failures == 0


async def test_the_rounds_that_hang_for_one_guest_are_bounded(loop: Loop) -> None:
    service = Service()
    service.hangs = True
    async with serving(service) as port:
        loop.watch(HttpCheck(port, timeout=0.4), period=0.001)
        await eventually(lambda: service.asked >= 30)
        assert service.open <= 20


async def test_a_guest_that_has_passed_is_asked_one_question_at_a_time(loop: Loop) -> None:
    service = Service()
    async with serving(service) as port:
        loop.watch(HttpCheck(port, timeout=0.2))
        await eventually(lambda: loop.web.ever_passed)
        service.hangs = True
        await eventually(lambda: service.open == 1)
        before = service.asked
        await eventually(lambda: loop.web.failures >= 1)
        assert service.asked <= before + 1
        assert "no answer" in loop.web.detail


async def test_another_period_keeps_the_counters_and_is_heeded_at_once(loop: Loop) -> None:
    async with serving(Service()) as port:
        loop.watch(HttpCheck(port), period=NEVER)
        await eventually(lambda: loop.web.ever_passed)
        since = loop.web.passing_since
        loop.watch(HttpCheck(port), period=QUICK)
        await eventually(lambda: loop.web.rounds >= 3)
        assert loop.web.passing_since == since


async def test_the_same_plans_again_change_nothing(loop: Loop) -> None:
    service = Service()
    async with serving(service) as port:
        for _ in range(50):
            loop.watch(HttpCheck(port), period=NEVER)
            await asyncio.sleep(0)
        await eventually(lambda: loop.web.ever_passed)
        assert service.asked == 1


async def test_a_guest_that_is_not_watched_any_more_is_not_asked_and_its_connection_closed(
    loop: Loop,
) -> None:
    service = Service()
    service.hangs = True
    async with serving(service) as port:
        loop.watch(HttpCheck(port, timeout=60))
        await eventually(lambda: service.open >= 1)
        loop.prober.watch({})
        assert loop.prober.health() == {}
        await eventually(lambda: service.open == 0)
        asked = service.asked
        loop.prober.watch({DB: ProbePlan((ProcessCheck(),), QUICK)})
        await eventually(lambda: loop.prober.health()[DB].rounds >= 3)
        assert service.asked == asked


async def test_one_guest_that_hangs_does_not_delay_the_others(loop: Loop) -> None:
    bad, good = Service(), Service()
    bad.hangs = True
    async with serving(bad) as one, serving(good) as other:
        loop.prober.watch(
            {
                WEB: ProbePlan((HttpCheck(one, timeout=60),), QUICK),
                DB: ProbePlan((HttpCheck(other),), QUICK),
            }
        )
        await eventually(lambda: loop.prober.health()[DB].rounds >= 5)
        assert not loop.web.ever_passed


async def test_a_fault_of_our_own_is_an_error_and_probing_goes_on(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    async with serving(Service()) as port:
        with monkeypatch.context() as patched:
            patched.setattr(http, "ask", broken)
            loop.watch(HttpCheck(port))
            await eventually(lambda: loop.web.errors >= 2)
        assert loop.web.failures == 0
        assert loop.web.last[0].detail == "could not ask: a bug"
        await eventually(lambda: loop.web.ever_passed)
    assert "a bug" in caplog.text


async def test_a_hundred_guests_are_all_asked(loop: Loop) -> None:
    service = Service()
    async with serving(service) as port:
        plan = ProbePlan((HttpCheck(port, timeout=20),), 10.0)
        loop.prober.watch({InstanceId(f"vm{n}"): plan for n in range(100)})
        await eventually(lambda: all(h.ever_passed for h in loop.prober.health().values()), 20)
    assert service.asked >= 100


async def test_answers_of_a_vm_are_told_with_their_generation_after_its_guest_is_gone(
    loop: Loop,
) -> None:
    async with serving(Service()) as port:
        plan = ProbePlan((HttpCheck(port),), NEVER, VMName("web"), GenerationNumber(7))
        loop.prober.watch({WEB: plan})
        await eventually(lambda: loop.prober.rounds(VMName("web")))
    loop.prober.watch({})
    (found,) = loop.prober.rounds(VMName("web"))
    assert (found.result, found.generation) == ("success", 7)
    assert 0 < found.seconds < 10
