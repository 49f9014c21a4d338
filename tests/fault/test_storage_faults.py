"""Rows 16-18, 20 and 21 of the fault matrix: the real ledger on a bad disk, under the real engine."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal

import pytest

from reconciler.errors import LedgerTooNew, LedgerUnwritable
from reconciler.ledger import schema
from reconciler.ledger.sqlite import open_ledger
from reconciler.model.desired import DesiredState, GroupSpec
from reconciler.model.names import GroupName, VMName
from tests.world import World, state, vm

Moment = Literal["before", "after"]
CODES = {
    "full": sqlite3.SQLITE_FULL,
    "io": sqlite3.SQLITE_IOERR_WRITE,
    "fsync": sqlite3.SQLITE_IOERR_FSYNC,
    "read-only": sqlite3.SQLITE_READONLY,
}


class Disk:
    """Counts commits; `fails` says what becomes of each, and whether before or after its effect."""

    def __init__(self) -> None:
        self.commits = 0
        self.fails: Callable[[int], tuple[str, Moment] | None] = lambda _n: None

    def connect(self, path: Path) -> sqlite3.Connection:
        disk = self

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:
                fault = disk.next_fault() if sql == "COMMIT" else None
                if fault is not None and fault[1] == "before":
                    raise error(fault[0])
                done = super().execute(sql, *parameters)  # type: ignore[arg-type]
                if fault is not None:
                    raise error(fault[0])
                return done

        connection = sqlite3.connect(
            path, factory=Connection, isolation_level=None, check_same_thread=False
        )
        connection.text_factory = bytes
        connection.execute("PRAGMA synchronous = OFF")  # these faults are ours: no power is lost
        return connection

    def next_fault(self) -> tuple[str, Moment] | None:
        self.commits += 1
        return self.fails(self.commits)


def error(what: str) -> sqlite3.OperationalError:
    found = sqlite3.OperationalError(f"the disk says: {what}")
    found.sqlite_errorcode = CODES[what]
    return found


@asynccontextmanager
async def a_world(path: Path, disk: Disk, former: World | None = None) -> AsyncIterator[World]:
    """A world that remembers in sqlite; with `former`, the next daemon on the same host."""
    world = World()
    if former is not None:
        world.clock, world.images = former.clock, former.images
        world.hypervisor = former.hypervisor
    world.durable = ledger = open_ledger(path, world.clock, connect=disk.connect).ledger
    world._boot()
    try:
        yield world
    finally:
        await ledger.close()


def fleet(content: str) -> DesiredState:
    group = GroupSpec(GroupName("g"))
    return state(*(vm(n, content, group="g", min_healthy=1.0) for n in "ab"), groups=(group,))


async def story(world: World) -> None:
    """A first boot, a good update, and a bad one that is rolled back."""
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 3 else "good"
    for content in ("v1", "v2", "v3"):
        while True:
            with suppress(LedgerUnwritable):
                await world.push(fleet(content))
                break
        await world.settle()
        while world.alerts:
            world.clock.advance(5.0)
            await world.settle()


def assert_the_end(world: World) -> None:
    assert world.hypervisor.running() == {"a": 2, "b": 2}
    assert world.hypervisor.starts == {"a": 4, "b": 2}
    assert world.generation("a", 3).verdict == "condemned"
    assert world.hold("g") is not None


WRITES = 32
"""Of the story, as `test_the_story_has_so_many_writes` counts them."""


async def test_the_story_has_so_many_writes(tmp_path: Path) -> None:
    disk = Disk()
    async with a_world(tmp_path / "ledger.db", disk) as world:
        await story(world)
        assert_the_end(world)
    assert disk.commits == WRITES


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "bit-flip": lambda b: b.replace(b'"verdict":"committed"', b'"verdict":"committee"', 1),
    "truncated": lambda b: b[: len(b) // 2],
    "zero-length": lambda _b: b"",
}


@pytest.mark.shows(row=16)
@pytest.mark.parametrize("pushed", ["v1", "v2"], ids=["same-revision", "newer-revision"])
@pytest.mark.parametrize("damage", DAMAGES)
async def test_row_16_a_damaged_ledger_is_moved_aside_and_guests_are_adopted_not_touched(
    tmp_path: Path, damage: str, pushed: str
) -> None:
    path = tmp_path / "ledger.db"
    async with a_world(path, Disk()) as world:
        await world.push(fleet("v1"))
        await world.settle()
    content = DAMAGES[damage](path.read_bytes())
    path.write_bytes(content)
    async with a_world(path, Disk(), former=world) as again:
        assert (tmp_path / "ledger.db.corrupt-1").read_bytes() == content, "kept for a person"
        await again.step()
        await again.push(fleet(pushed))
        await again.settle()
        assert again.hypervisor.log == world.hypervisor.log, "no start, no end"
        assert again.hypervisor.running() == {"a": 1, "b": 1}
        assert all(again.last_good(name).reason == "adopted" for name in "ab")
        assert sorted(again.hypervisor.folders) == ["a", "b"]


@pytest.mark.shows(row=17)
async def test_row_17_a_ledger_of_a_newer_version_is_refused_and_left_as_it_is(
    tmp_path: Path,
) -> None:
    def newer(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE what_comes_later (key TEXT)")

    path = tmp_path / "ledger.db"
    migrations = (*schema.MIGRATIONS, newer)
    await open_ledger(path, World().clock, migrations=migrations).ledger.close()
    before = path.read_bytes()
    with pytest.raises(LedgerTooNew, match=f"knows {len(schema.MIGRATIONS)}") as refused:
        open_ledger(path, World().clock)
    assert "install the newer version again" in refused.value.hint
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*corrupt*"))


async def assert_nothing_happens_until_the_disk_is_well(tmp_path: Path, what: str) -> None:
    disk = Disk()
    async with a_world(tmp_path / "ledger.db", disk) as world:
        await world.push(fleet("v1"))
        await world.settle()
        await world.push(fleet("v2"))
        disk.fails = lambda _n: (what, "before")
        calls, alive = list(world.faults.calls), world.hypervisor.running()
        world.hypervisor.kill("b")
        for _ in range(20):
            await world.step()
            world.clock.advance(5.0)
        assert world.faults.calls == calls, "no side effect that nothing would remember"
        assert world.hypervisor.running() == {"a": alive[VMName("a")]}
        assert world.meter.counts["state failed"] > 1
        assert "nothing is started or stopped" in world.alerts[0]
        disk.fails = lambda _n: None
        await world.settle()
        assert world.hypervisor.running() == {"a": 2, "b": 2}
        assert world.alerts == ()


@pytest.mark.shows(row=18)
async def test_row_18_a_full_state_directory_starts_and_stops_nothing_until_there_is_room(
    tmp_path: Path,
) -> None:
    await assert_nothing_happens_until_the_disk_is_well(tmp_path, "full")


@pytest.mark.shows(row=20)
@pytest.mark.parametrize("what", ["io", "read-only"])
async def test_row_20_a_broken_or_read_only_disk_starts_and_stops_nothing_until_it_is_well(
    tmp_path: Path, what: str
) -> None:
    await assert_nothing_happens_until_the_disk_is_well(tmp_path, what)


@pytest.mark.shows(row=18)
@pytest.mark.shows(row=20)
@pytest.mark.parametrize("at", range(1, WRITES + 1))
@pytest.mark.parametrize("what", ["full", "io"])
async def test_rows_18_and_20_any_write_may_fail_for_a_while_and_the_end_is_the_same(
    tmp_path: Path, what: str, at: int
) -> None:
    disk = Disk()
    disk.fails = lambda n: (what, "before") if at <= n < at + 3 else None
    async with a_world(tmp_path / "ledger.db", disk) as world:
        await story(world)
        assert_the_end(world)
        assert await world.durable.intents_open() == []


@pytest.mark.shows(row=21)
@pytest.mark.parametrize("at", range(1, WRITES + 1))
async def test_row_21_after_a_failed_sync_of_any_write_the_disk_is_asked_and_the_end_is_the_same(
    tmp_path: Path, at: int
) -> None:
    disk = Disk()
    disk.fails = lambda n: ("fsync", "after") if n == at else None
    async with a_world(tmp_path / "ledger.db", disk) as world:
        await story(world)
        assert_the_end(world)
        assert await world.durable.intents_open() == [], "none waits for the next daemon"
        remembered = world.durable.record()
    async with a_world(tmp_path / "ledger.db", Disk(), former=world) as again:
        assert again.durable.record() == remembered, "memory was never ahead of the disk"
