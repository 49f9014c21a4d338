"""Handover, whatever is pushed, fails or dies: somebody serves, and nobody writes beside another."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from reconciler.model.actions import StopGuest
from reconciler.model.policy import Policy
from tests.fakes import Crash
from tests.fakes.faults import Fault
from tests.world import CHECK, World, state, vm

pytestmark = pytest.mark.shows(law=2)

POLICY = Policy("/state", prune=True, memory_reserve_mib=0, disk_reserve_mib=0)
FATES = ("good", "good", "bad", "sick", "exits", "panics")
pushes = st.lists(st.sampled_from(FATES), min_size=1, max_size=4)
passes = st.lists(st.integers(min_value=1, max_value=30), min_size=4, max_size=4)


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


class Watch:
    """Looks at every decision and at all guests after it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.unserved = 0
        world.on_pass = self.look

    def look(self) -> None:
        living = self.world.hypervisor.all_living("web")
        assert len(living) <= 2
        assert len({guest.process.slot for guest in living}) == len(living)
        served = any(CHECK.port in guest.reached_at for guest in living)
        self.unserved = 0 if served else self.unserved + 1
        passed = self.world.reconciler.passed
        for action in passed.plan.actions if passed else ():
            if isinstance(action, StopGuest) and len(living) == 2:
                told = next(g for g in living if g.process.instance == action.instance)
                assert CHECK.port not in told.reached_at, f"stopped while it serves: {action.why}"


async def first(world: World) -> Watch:
    await world.push(state(vm("web", "v0", handover=True, min_healthy=1.0)))
    await world.settle()
    return Watch(world)


async def push(world: World, number: int, fate: str) -> None:
    spec = vm("web", f"v{number}", handover=True, min_healthy=1.0)
    path = f"/state/layers/{spec.layers[-1].key}/image"
    before = world.hypervisor.behaviour
    world.hypervisor.behaviour = lambda m: fate if m.layers[-1].path == path else before(m)
    await world.push(state(spec))


@given(pushes, passes)
@settings(max_examples=80)
def test_safety_whatever_is_pushed_one_after_the_other_somebody_serves_all_the_while(
    fates: list[str], between: list[int]
) -> None:
    async def story() -> None:
        world = World(POLICY)
        watch = await first(world)
        for number, (fate, some) in enumerate(zip(fates, between, strict=False), start=1):
            await push(world, number, fate)
            for _ in range(some):
                await world.step()
                assert watch.unserved == 0
                world.clock.advance(0.5)
        await world.settle()
        assert watch.unserved == 0
        assert len(world.hypervisor.all_living("web")) == 1
        good = world.last_good("web")
        wanted = vm("web", f"v{len(fates)}", handover=True, min_healthy=1.0).digest
        assert good.digest == wanted or fates[-1] != "good"

    run(story())


@given(
    pushes, st.integers(min_value=0, max_value=90), st.sampled_from(("crash-before", "crash-after"))
)
@settings(max_examples=150)
def test_interruption_a_death_at_any_call_leaves_nobody_without_a_guest_for_long(
    fates: list[str], at: int, death: Fault
) -> None:
    async def story() -> None:
        world = World(POLICY)
        watch = await first(world)
        since = world.faults.count
        world.faults.chooser = lambda n, _call: death if n == since + at else None
        for number, fate in enumerate(fates, start=1):
            with contextlib.suppress(Crash):
                await push(world, number, fate)
                await world.settle()
            if world.faults.crashed:
                world.faults.crashed = False
                await world.restart()
                await push(world, number, fate)
                watch.unserved = 0
                for _ in range(3):
                    await world.step()
                assert watch.unserved <= 1, "half-moved ports are carried on with at once"
                await world.settle()
        assert watch.unserved == 0
        assert len(world.hypervisor.all_living("web")) == 1

    run(story())
