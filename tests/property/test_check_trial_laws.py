"""Law 14 on random pushes of checks alone: no guest is stopped, and what is in force was passed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from reconciler.model.actions import StopGuest, StopLadder
from reconciler.model.change import PutVM
from reconciler.model.desired import DesiredState, GroupSpec, VMSpec
from reconciler.model.names import GroupName, VMName
from reconciler.model.plan import Plan
from reconciler.model.record import Stop
from reconciler.planning.lint.laws import check
from tests.fakes import Crash
from tests.fakes.faults import Fault
from tests.fakes.prober import WRONG
from tests.world import World, changed, state, vm

pytestmark = pytest.mark.shows(law=14, fault=58)

NAMES = ("a", "b", "c")
PATHS = ("/healthz", "/ready", "/live", f"{WRONG}/1", f"{WRONG}/2")
paths = st.fixed_dictionaries({name: st.sampled_from(PATHS) for name in NAMES})
thresholds = st.integers(min_value=1, max_value=4)
pushes = st.lists(st.tuples(paths, thresholds, st.integers(0, 40)), min_size=1, max_size=3)
limits = st.integers(min_value=1, max_value=3)
policies = st.sampled_from(("halt", "continue", "rollbackGroup"))
canaries = st.sampled_from(((), ("a",), ("b", "c")))


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


def member(name: str, path: str, threshold: int) -> VMSpec:
    return changed(vm(name, group="g", path=path), health={"failure_threshold": threshold})


def fleet(asked: dict[str, str], threshold: int, group: GroupSpec) -> DesiredState:
    return state(*(member(n, p, threshold) for n, p in asked.items()), groups=(group,))


def path_of(world: World, name: str) -> str:
    return str(getattr(world.last_good(name).spec.health.checks[0], "path", ""))


@given(pushes, limits, policies, canaries, st.integers(0, 200), st.booleans())
@pytest.mark.timeout(240)  # some 20 s where nothing else runs
@settings(max_examples=40)
def test_pushes_of_checks_alone_stop_no_guest_and_put_nothing_in_force_that_was_not_passed(
    told: list[tuple[dict[str, str], int, int]], limit: int, policy: Any,
    first: Sequence[str], at: int, dies: bool,  # noqa: FBT001
) -> None:  # fmt: skip
    async def story() -> None:
        group = GroupSpec(
            GroupName("g"), limit, canary=tuple(map(VMName, first)), on_failure=policy
        )
        good = fleet(dict.fromkeys(NAMES, "/healthz"), 3, group)
        world = await World.settled(good)
        death: Fault = "crash-before" if at % 2 else "crash-after"
        world.faults.chooser = lambda n, _call: death if dies and n == at else None
        for asked, threshold, passes in told:
            for _ in range(passes):
                await survive(world, world.step)
            desired = fleet(asked, threshold, group)
            await survive(world, partial(world.push, desired))
            await world.push(desired)
        world.faults.chooser = lambda _n, _call: None
        await world.settle()
        last, _, _ = told[-1]
        for name in NAMES:
            assert (world.hypervisor.starts[name], world.hypervisor.stops[name]) == (1, 0)
            assert not path_of(world, name).startswith(WRONG)
        if not any(path.startswith(WRONG) for path in last.values()):
            assert {name: path_of(world, name) for name in NAMES} == last

    run(story())


async def survive(world: World, work: Callable[[], Awaitable[object]]) -> None:
    """If the daemon dies in it, the next one begins."""
    with contextlib.suppress(Crash):
        await work()
    if world.faults.crashed:
        world.faults.crashed = False
        await world.restart()
    world.clock.advance(0.5)


@pytest.mark.shows(fault=63)
def test_a_plan_that_replaces_checks_without_a_trial_is_refused() -> None:
    async def story() -> None:
        world = await World.settled(state(vm("web")))
        passed, record = world.reconciler.passed, world.record("web")
        assert passed is not None
        good = world.last_good("web")
        other = replace(good, spec=vm("web", path="/other"))
        unsound = Plan(changes=(PutVM(record.with_generation(other)),))
        found = check(
            unsound, passed.desired, passed.observed, world.durable.record(), world.clock.now()
        )
        assert [(v.law, v.subject) for v in found] == [(14, "web")]

    run(story())


@pytest.mark.shows(fault=63)
def test_a_plan_that_stops_a_guest_which_passes_its_checks_as_unhealthy_is_refused() -> None:
    async def story() -> None:
        world = await World.settled(state(vm("web")))
        passed, record = world.reconciler.passed, world.record("web")
        assert passed is not None
        instance = world.hypervisor.living("web").process.instance
        stopped = replace(record, stop=Stop(instance, "unhealthy"))
        stop = StopGuest(VMName("web"), instance, StopLadder(5.0), "its checks fail")
        unsound = Plan(actions=(stop,), changes=(PutVM(stopped),))
        found = check(
            unsound, passed.desired, passed.observed, world.durable.record(), world.clock.now()
        )
        assert 14 in {v.law for v in found}

    run(story())
