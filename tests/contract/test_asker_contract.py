"""What every kind of check does with the guest that it asks, whatever it asks for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from reconciler.clock import SystemClock
from reconciler.model.checks import CHECK_KINDS, HttpCheck, TcpCheck
from reconciler.model.guest_reports import ConsoleText
from reconciler.model.health import CheckAnswer, ProbePlan, ProbeResult
from reconciler.model.names import InstanceId
from reconciler.probe.asker import AskedGuest
from reconciler.probe.prober import GuestProber
from reconciler.probe.registry import Askers
from tests.contract.stubs import CHECKS, ConsoleCheck
from tests.eventually import eventually
from tests.unit.probe import servers
from tests.unit.probe.servers import serving

WEB = InstanceId("web-g1-1")
QUICK = 0.02
GREETING = "ready to serve"


@dataclass
class Guest:
    """A guest whose health the test decides, and the question that shows it."""

    check: Any = HttpCheck(1)
    """A `CheckSpec`, or one of a kind that the product does not have."""
    well: bool = True
    hangs: bool = False
    asked: int = 0

    async def answer(self) -> None:
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()

    async def console(self, _: InstanceId) -> ConsoleText:
        await self.answer()
        return ConsoleText(GREETING if self.well else "starting")

    async def http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.answer()
        await servers.http("200 OK" if self.well else "503 Unavailable")(reader, writer)

    async def tcp(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.answer()
        writer.write(GREETING.encode() if self.well else b"starting")
        await writer.drain()

    @property
    def is_timed(self) -> bool:
        """Whether the manifest says how long an answer may take."""
        return hasattr(self.check, "timeout")

    def with_timeout(self, seconds: float) -> Any:
        return replace(self.check, timeout=seconds) if self.is_timed else self.check


@contextlib.asynccontextmanager
async def http_guest() -> AsyncIterator[Guest]:
    guest = Guest()
    async with serving(guest.http) as port:
        guest.check = HttpCheck(port)
        yield guest


@contextlib.asynccontextmanager
async def tcp_guest() -> AsyncIterator[Guest]:
    guest = Guest()
    async with serving(guest.tcp) as port:
        guest.check = TcpCheck(port, expect=GREETING)
        yield guest


@contextlib.asynccontextmanager
async def console_guest() -> AsyncIterator[Guest]:
    yield Guest(ConsoleCheck(GREETING))


GUESTS = {"http": http_guest, "tcp": tcp_guest, "console": console_guest}
"""By the kind of check; `process` asks no guest."""


@pytest.fixture(params=GUESTS)
async def guest(request: pytest.FixtureRequest) -> AsyncIterator[Guest]:
    async with GUESTS[request.param]() as guest:
        yield guest


@contextlib.asynccontextmanager
async def askers(longest: float = 3600.0) -> AsyncIterator[Askers]:
    opened = Askers(CHECKS, longest)
    yield opened
    await opened.close()


async def ask(guest: Guest, seconds: float = 5.0) -> tuple[ProbeResult, str]:
    """Give it so many seconds, as its own timeout or as everybody's."""
    async with askers(seconds) as opened:
        return await opened.ask(guest.with_timeout(seconds), AskedGuest(WEB, guest.console))


def test_every_kind_has_an_asker() -> None:
    assert set(CHECKS) == {*CHECK_KINDS, "console"}


def test_every_kind_that_asks_a_guest_is_held_to_this() -> None:
    assert GUESTS.keys() == CHECKS.keys() - {"process"}


async def test_a_guest_that_is_well_passes(guest: Guest) -> None:
    result, detail = await ask(guest)
    assert (result, bool(detail)) == ("success", True)


async def test_a_guest_that_answers_otherwise_fails_with_what_it_said(guest: Guest) -> None:
    guest.well = False
    result, detail = await ask(guest)
    assert (result, bool(detail)) == ("failure", True)


async def test_a_guest_that_does_not_answer_in_time_fails_or_was_not_asked(guest: Guest) -> None:
    """What has no timeout does not wait for the guest: only this host is slow."""
    guest.hangs = True
    result, detail = await ask(guest, 0.05)
    assert result == ("failure" if guest.is_timed else "error")
    assert "within 0.05 s" in detail


async def test_a_question_that_is_given_up_ends_at_once(guest: Guest) -> None:
    guest.hangs = True
    async with askers() as opened:
        asking = asyncio.create_task(
            opened.ask(guest.with_timeout(3600.0), AskedGuest(WEB, guest.console))
        )
        await eventually(lambda: guest.asked)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_what_an_asker_raises_is_no_fault_of_the_guest(guest: Guest) -> None:
    async with askers() as opened:
        wrong: dict[str, Any] = {"timeout": "soon"} if guest.is_timed else {"text": None}
        nonsense = replace(guest.check, **wrong)
        result, detail = await opened.ask(nonsense, AskedGuest(WEB, guest.console))
    assert (result, detail.startswith("could not ask")) == ("error", True)


async def test_the_prober_counts_its_answers_by_its_kind(guest: Guest) -> None:
    heard: list[CheckAnswer] = []
    prober = GuestProber(SystemClock(), lambda: None, heard.append, guest.console, CHECKS)
    prober.watch({WEB: ProbePlan((guest.check,), QUICK)})
    await eventually(lambda: prober.health()[WEB].ever_passed)
    guest.well = False
    await eventually(lambda: prober.health()[WEB].failures > 1)
    assert {answer.kind for answer in heard} == {guest.check.kind}
    await prober.close()
