"""A ledger that cannot be written is seen everywhere, whoever met it first, and no push is lost by it."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from reconciler.control.servers import serve_http
from reconciler.engine.guarded_ledger import CHECKED_EVERY, GuardedLedger
from reconciler.engine.loop import Engine
from reconciler.errors import LedgerUnwritable
from reconciler.ledger import schema
from reconciler.ledger.sqlite import open_ledger
from tests.eventually import eventually
from tests.fakes import FakeClock, FakeLedger, FakeMeter, Faults
from tests.unit.control.opening import ANY_PORT, access, shown
from tests.world import World, state, vm


def locked(ledger: Path) -> Callable[[], None]:
    other = sqlite3.connect(ledger, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    return other.close


def deleted(ledger: Path) -> Callable[[], None]:
    kept = ledger.parent.with_name("kept")
    kept.mkdir()
    for one in ledger.parent.glob("ledger.db*"):
        one.rename(kept / one.name)

    def mend() -> None:
        for one in kept.iterdir():
            one.rename(ledger.with_name(one.name))

    return mend


def replaced(ledger: Path) -> Callable[[], None]:
    there, copy = ledger.with_name("there"), ledger.with_name("copy")
    shutil.copy(ledger, copy)
    ledger.rename(there)
    copy.rename(ledger)
    return lambda: _back(there, ledger)


def moved(ledger: Path) -> Callable[[], None]:
    """The whole state directory goes."""
    elsewhere = ledger.parent.with_name("elsewhere")
    ledger.parent.rename(elsewhere)
    return lambda: _back(elsewhere, ledger.parent)


def _back(kept: Path, place: Path) -> None:
    kept.rename(place)


HURT = {"locked": locked, "deleted": deleted, "replaced": replaced, "moved": moved}


@asynccontextmanager
async def daemon(tmp_path: Path) -> AsyncIterator[tuple[World, Engine, str]]:
    """An engine on a real ledger, with its web face. It hears of pushes when it looks."""
    folder = tmp_path / "state"
    folder.mkdir()
    ledger = open_ledger(folder / "ledger.db", FakeClock()).ledger
    world = World(durable=ledger)
    engine = Engine(world.adapters, world.policy)
    face = await serve_http(engine, lambda: b"", ANY_PORT, access(""))
    running = asyncio.create_task(engine.run())
    try:
        yield world, engine, f"http://127.0.0.1:{face.port}"
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await face.close()
        await ledger.close()


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.1)


@pytest.mark.shows(fault=49)
@pytest.mark.parametrize("how", sorted(HURT))
async def test_a_push_that_cannot_be_remembered_is_an_alert_a_line_a_count_and_no_readiness(
    how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with daemon(tmp_path) as (world, engine, face), aiohttp.ClientSession(face) as http:
        first, second = state(vm("web")), state(vm("web", "v2"))
        world.source.push(first)
        engine.look()
        await eventually(lambda: engine.status().revision.observed == first.revision)
        assert (await http.get("/readyz")).status == 200
        mend = HURT[how](tmp_path / "state" / "ledger.db")
        world.source.push(second)
        engine.look()
        await eventually(lambda: engine.status().alerts)
        assert "pushes and requests are not taken" in engine.status().alerts[0]
        for headers in ({}, shown()):
            answer = await http.get("/readyz", headers=headers)
            assert (answer.status, "ledger.db" in await answer.text()) == (503, bool(headers))
        assert (await http.get("/healthz")).status == 200, "a restart mends nothing"
        assert world.meter.counts["state failed"] >= 1
        lines = [one for one in caplog.records if one.message.startswith("the ledger fails")]
        assert 1 <= len(lines) <= 3, "said once, and not at every try"
        assert engine.status().revision.observed == first.revision
        mend()
        await eventually(lambda: engine.status().revision.observed == second.revision)
        assert engine.status().alerts == ()
        assert (await http.get("/readyz")).status == 200
        assert any(one.message == "the ledger works again" for one in caplog.records)


@pytest.mark.shows(fault=50)
async def test_a_state_directory_that_was_moved_is_noticed_without_any_push(tmp_path: Path) -> None:
    async with daemon(tmp_path) as (world, engine, _):
        world.source.push(state(vm("web")))
        engine.look()
        await eventually(lambda: engine.status().revision.observed)
        mend = moved(tmp_path / "state" / "ledger.db")
        world.clock.advance(CHECKED_EVERY)
        engine.wake()
        await eventually(lambda: engine.status().alerts)
        assert "its folder was moved or deleted" in engine.status().alerts[0]
        mend()


@pytest.mark.shows(fault=49)
async def test_trouble_that_lasts_is_logged_once_a_minute_and_counted_each_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, meter = FakeClock(), FakeMeter()
    ledger = FakeLedger(Faults(clock))
    guarded = GuardedLedger(ledger, meter, clock)
    ledger.failing = LedgerUnwritable("the disk is full", kind="full")
    for _ in range(130):
        with suppress(LedgerUnwritable):
            await guarded.check()
        clock.advance(1.0)
    lines = [one for one in caplog.records if "the ledger fails" in one.message]
    assert len(lines) == 2
    assert meter.counts["state failed"] == 120, "and looked at each 10 s before"
    ledger.failing = None
    await guarded.check()
    assert guarded.alerts == ()
