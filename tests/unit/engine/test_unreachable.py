"""A source that cannot be read is told of once, and so is its end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from reconciler.engine.loop import Engine
from reconciler.errors import (
    LedgerUnwritable,
    ManifestErrors,
    Problem,
    SourceError,
    SourceErrorKind,
)
from reconciler.notify.selection import Digest
from reconciler.requests.source_changes import REPORTED_AFTER
from tests.world import World, state, vm


class Host:
    def __init__(self) -> None:
        self.world = World()
        self.world.source.push(state())
        self.engine = Engine(self.world.adapters, self.world.policy)

    async def looks(self, times: int = 1, pause: float = 0.0) -> None:
        for _ in range(times):
            self.world.clock.advance(pause)
            with suppress(SourceError, ManifestErrors):
                await self.engine.reconcile(wait=False, timeout=1)

    def away(self, kind: SourceErrorKind = "network") -> None:
        self.world.source.fails = SourceError("no route to host", kind=kind, hint="")

    def told(self) -> list[str]:
        kinds = ("source-unreachable", "source-reachable")
        return [event.kind for event in self.world.ledger.history if event.kind in kinds]


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    host = Host()
    running = asyncio.create_task(host.engine.run())
    await host.looks()
    yield host
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


@pytest.mark.shows(row=22)
async def test_it_is_told_when_it_begins_and_when_it_ends_and_no_look_between_writes(
    host: Host,
) -> None:
    host.away()
    await host.looks(3, REPORTED_AFTER / 2 + 1)
    assert host.told() == ["source-unreachable"]
    written = host.world.ledger.writes
    host.away("auth")
    await host.looks(50, 600)
    assert host.told() == ["source-unreachable"]
    assert host.world.ledger.writes == written

    host.world.source.fails = None
    await host.looks(3, 60)
    assert host.told() == ["source-unreachable", "source-reachable"]
    assert host.world.ledger.record().source.unreachable is None


async def test_a_sink_hears_of_it_and_then_of_its_end(host: Host) -> None:
    sink = Digest("host-1", severity="warning", groups=(), repeat=3600.0)
    host.away()
    await host.looks(2, REPORTED_AFTER + 1)
    host.world.source.fails = None
    await host.looks(1, 480 - REPORTED_AFTER)
    told = [message for event in host.world.ledger.history if (message := sink.take(event))]
    assert [(one.condition, one.status) for one in told] == [
        ("source", "firing"),
        ("source", "resolved"),
    ]
    failed, over = told
    assert "no route to host" in failed.summary
    assert over.ends == (failed,)


async def test_failures_that_the_next_look_mends_are_not_worth_telling(host: Host) -> None:
    for _ in range(20):
        host.away()
        await host.looks(3, REPORTED_AFTER / 3)
        host.world.source.fails = None
        await host.looks(1, REPORTED_AFTER)
    assert host.told() == []


async def test_a_source_that_answers_with_nonsense_can_be_read(host: Host) -> None:
    host.away()
    await host.looks(2, REPORTED_AFTER + 1)
    bad = Problem("web.yaml", 3, 1, "unknown field")
    host.world.source.fails = ManifestErrors([bad], revision="b" * 40)
    await host.looks(2, 60)
    assert host.told() == ["source-unreachable", "source-reachable"]


async def test_the_next_daemon_tells_the_end_of_what_the_one_before_told(host: Host) -> None:
    host.away()
    await host.looks(2, REPORTED_AFTER + 1)
    next_one = Engine(host.world.adapters, host.world.policy)
    running = asyncio.create_task(next_one.run())
    with suppress(SourceError):
        await next_one.reconcile(wait=False, timeout=1)
    host.world.source.fails = None
    await next_one.reconcile(wait=False, timeout=1)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert host.told() == ["source-unreachable", "source-reachable"]


async def test_a_ledger_that_fails_loses_neither_the_push_nor_the_event(host: Host) -> None:
    host.away()
    await host.looks(2, REPORTED_AFTER + 1)
    host.world.source.fails = None
    host.world.source.push(state(vm("web", "v2", min_healthy=0.0)))
    host.world.ledger.failing = LedgerUnwritable("no space", kind="full")
    with suppress(LedgerUnwritable):
        await host.looks()
    host.world.ledger.failing = None
    await host.looks(2, 60)
    head = host.world.source.head
    assert head is not None
    assert host.world.ledger.record().source.revision == head.revision
    assert host.told() == ["source-unreachable", "source-reachable"]
