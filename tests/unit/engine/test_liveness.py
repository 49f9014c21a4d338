"""The daemon lives while each of its parts goes round; systemd's watchdog is fed only then."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from reconciler.engine.loop import STALLED, Engine
from reconciler.model.desired import ANY, Fetched, Lineage
from reconciler.model.machine import HostPort
from reconciler.model.observed import HostFacts
from tests.eventually import eventually
from tests.world import World, state

PASSES = 50.0
"""Seconds of the clock between two wakes of the planner: less than STALLED."""


class Host:
    def __init__(self) -> None:
        self.world = World()
        self.world.source.push(state())
        self.engine = Engine(self.world.adapters, self.world.policy)
        self.never = asyncio.Event()
        self.looks, self.passes = 0, 0

    def hang_looking(self) -> None:
        async def fetch(lineage: Lineage = ANY) -> Fetched:
            self.looks += 1
            await self.never.wait()
            raise AssertionError(lineage)

        self.world.source.fetch = fetch  # type: ignore[method-assign]

    def hang_planning(self) -> None:
        async def facts(wanted: frozenset[HostPort] = frozenset()) -> HostFacts:  # noqa: ARG001 - the port's shape
            self.passes += 1
            await self.never.wait()
            raise AssertionError

        self.world.host.facts = facts  # type: ignore[method-assign]

    async def time_passes(self, seconds: float) -> None:
        """The planner is woken again and again, and ticks if it can."""
        for _ in range(int(seconds / PASSES)):
            self.world.clock.advance(PASSES)
            self.engine.wake()
            for _ in range(50):
                await asyncio.sleep(0)


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    host = Host()
    running = asyncio.create_task(host.engine.run())
    yield host
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_a_source_that_hangs_in_its_first_look_is_noticed_though_the_planner_goes_on(
    host: Host,
) -> None:
    host.hang_looking()
    await eventually(lambda: host.looks == 1)
    longest = host.world.source.longest_look()
    await host.time_passes(longest)
    assert host.engine.live(), "a look may take its time"
    await host.time_passes(STALLED + 2 * PASSES)
    assert not host.engine.live()


async def test_a_look_that_takes_longer_than_the_pause_before_it_is_no_stall(host: Host) -> None:
    await host.engine.reconcile(wait=False, timeout=1)
    host.hang_looking()
    host.engine.look()
    await eventually(lambda: host.looks == 1)
    await host.time_passes(host.world.source.longest_look())
    assert host.engine.live()


async def test_a_planner_that_hangs_is_noticed(host: Host) -> None:
    await host.engine.reconcile(wait=False, timeout=1)
    assert host.engine.live()
    host.hang_planning()
    host.world.clock.advance(PASSES)
    host.engine.wake()
    await eventually(lambda: host.passes == 1)
    host.world.clock.advance(STALLED + 2 * PASSES)
    assert not host.engine.live()
