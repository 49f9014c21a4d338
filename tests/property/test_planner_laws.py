"""The planner's own laws: idle, convergence, interruption, safety, determinism, monotony."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from reconciler.model.actions import CancelBuild, StartGuest, StopGuest
from reconciler.model.desired import DesiredState, GroupSpec
from reconciler.model.names import GroupName
from reconciler.model.observed import Observed
from reconciler.model.policy import Policy
from reconciler.model.record import Record
from reconciler.planning.planner import plan
from tests.fakes import Crash
from tests.fakes.faults import Fault
from tests.world import World, state, vm

NAMES = ("a", "b", "c", "d")
contents = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(("v1", "v2", "v3")), min_size=1)
limits = st.integers(min_value=1, max_value=3)
fates = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(("good", "bad", "exits", "panics")))
POLICY = Policy("/state", prune=True, max_delete=4, memory_reserve_mib=0, disk_reserve_mib=0)


def fleet(content: dict[str, str], limit: int) -> DesiredState:
    vms = [vm(name, text, group="g", min_healthy=1.0) for name, text in content.items()]
    return state(*vms, groups=(GroupSpec(GroupName("g"), max_unavailable=limit),))


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


@pytest.mark.shows(law=12)
@given(contents, limits)
@settings(max_examples=40)
def test_idle_a_settled_world_needs_nothing(content: dict[str, str], limit: int) -> None:
    async def story() -> None:
        world = World(POLICY)
        await world.push(fleet(content, limit))
        await world.settle()
        writes = world.ledger.writes
        await world.step()
        assert world.ledger.writes == writes
        passed = world.reconciler.passed
        assert passed is not None
        assert passed.plan.idle

    run(story())


@pytest.mark.shows(law=13)
@given(contents, contents, limits)
@settings(max_examples=40)
def test_convergence_every_vm_ends_at_what_is_desired(
    first: dict[str, str], second: dict[str, str], limit: int
) -> None:
    async def story() -> None:
        world = World(POLICY)
        for content in (first, second):
            await world.push(fleet(content, limit))
            await world.settle()
        desired = world.reconciler.desired
        assert desired is not None
        assert set(world.hypervisor.running()) == set(second)
        for name, spec in desired.vms.items():
            assert world.last_good(name).digest == spec.digest

    run(story())


@pytest.mark.shows(law=13)
@given(
    contents,
    contents,
    limits,
    st.integers(min_value=0, max_value=120),
    st.sampled_from(("crash-before", "crash-after")),
)
@settings(max_examples=120)
def test_interruption_a_death_at_any_call_leads_to_the_same_end(
    first: dict[str, str], second: dict[str, str], limit: int, at: int, death: Fault
) -> None:
    async def story() -> None:
        world = World(POLICY)
        world.faults.chooser = lambda n, _call: death if n == at else None
        for content in (first, second):
            desired = fleet(content, limit)
            try:
                await world.push(desired)
                await world.settle()
            except Crash:
                pass
            if world.faults.crashed:
                world.faults.crashed = False
                await world.restart()
                await world.push(desired)
                await world.settle()
        assert set(world.hypervisor.running()) == set(second)
        for name, text in second.items():
            assert world.last_good(name).digest == vm(name, text).digest

    run(story())


@pytest.mark.shows(law=3, comparison=7)
@given(contents, contents, limits, fates)
@settings(max_examples=60)
def test_safety_no_pass_takes_more_than_the_limit_out_of_service(
    first: dict[str, str], second: dict[str, str], limit: int, bad: dict[str, str]
) -> None:
    async def story() -> None:
        world = World(POLICY)
        await world.push(fleet(first, limit))
        await world.settle()
        kept = set(first) & set(second)
        world.hypervisor.behaviour = lambda m: bad.get(m.vm, "good") if m.generation > 1 else "good"
        most = 0

        def count() -> None:
            nonlocal most
            most = max(most, len(kept - set(world.hypervisor.running())))

        world.on_pass = count
        await world.push(fleet(second, limit))
        await world.settle()
        assert most <= max(limit, 0)

    run(story())


@pytest.mark.shows(law=3)
@given(
    st.sets(st.sampled_from(NAMES), min_size=1), st.sets(st.sampled_from(NAMES)), limits,
    st.integers(min_value=1, max_value=3),
)  # fmt: skip
@settings(max_examples=25)
def test_repairs_of_those_that_fall_ill_at_once_keep_to_both_bounds_and_all_are_mended(
    ill: set[str], hopeless: set[str], limit: int, at_once: int
) -> None:
    async def story() -> None:
        world = World(replace(POLICY, max_repairs=at_once))
        await world.push(fleet(dict.fromkeys(NAMES, "v1"), limit))
        await world.settle()
        world.hypervisor.behaviour = lambda m: "bad" if m.vm in hopeless else "good"
        for name in ill:
            world.hypervisor.living(name).fate = "bad"
        most = 0

        def count() -> None:
            nonlocal most
            most = max(most, len(set(NAMES) - set(world.hypervisor.running())))

        world.on_pass = count
        until = world.clock.now().boot + 200.0
        while world.clock.now().boot < until:
            await world.step()
            world.clock.advance(0.5)
        gone = len(ill & hopeless)  # those in their pause are down, and in nobody's way
        assert most <= min(limit, at_once) + gone
        assert all(world.hypervisor.starts[name] >= 2 for name in ill)

    run(story())


@given(st.lists(contents, min_size=2, max_size=5), st.lists(st.integers(0, 12), min_size=4))
@settings(max_examples=40)
def test_cancelled_builds_are_of_what_nobody_wants_and_the_newest_commit_is_reached(
    pushes: list[dict[str, str]], pauses: list[int]
) -> None:
    async def story() -> None:
        world = World(replace(POLICY, max_builds=1))
        world.images.slow = lambda key: int(key[:2], 16) / 16

        def wanted() -> None:
            passed, desired = world.reconciler.passed, world.reconciler.desired
            named = {key for s in desired.vms.values() for key in s.image_keys} if desired else {}
            for action in passed.plan.actions if passed else ():
                assert not isinstance(action, CancelBuild) or action.key not in named

        world.on_pass = wanted
        for content, pause in zip(pushes, pauses, strict=False):
            await world.push(fleet(content, 4))
            for _ in range(pause):
                await world.step()
                world.clock.advance(0.5)
        await world.settle(900.0)
        last = pushes[min(len(pushes), len(pauses)) - 1]
        for name, text in last.items():
            assert world.last_good(name).digest == vm(name, text).digest

    run(story())


@given(contents, st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_determinism_the_order_of_the_inputs_changes_nothing(
    content: dict[str, str], random: Any
) -> None:
    async def story() -> None:
        world = World(POLICY)
        await world.push(fleet(content, 1))
        for _ in range(random.randrange(8)):
            await world.step()
        passed = world.reconciler.passed
        desired, record = world.reconciler.desired, world.ledger.record()
        if passed is None or desired is None:
            return
        now = world.clock.now()
        straight = plan(desired, passed.observed, record, now, POLICY)
        mixed = plan(
            _shuffled_state(desired, random), _shuffled_world(passed.observed, random),
            _shuffled_record(record, random), now, POLICY,
        )  # fmt: skip
        assert straight == mixed

    run(story())


def _mix(mapping: Any, random: Any) -> dict[Any, Any]:
    items = list(mapping.items())
    random.shuffle(items)
    return dict(items)


def _shuffled_state(desired: DesiredState, random: Any) -> DesiredState:
    return replace(desired, vms=_mix(desired.vms, random), groups=_mix(desired.groups, random))


def _shuffled_world(observed: Observed, random: Any) -> Observed:
    return replace(observed, guests=_mix(observed.guests, random))


def _shuffled_record(record: Record, random: Any) -> Record:
    return replace(record, vms=_mix(record.vms, random), groups=_mix(record.groups, random))


@given(st.lists(contents, min_size=1, max_size=4), fates)
@settings(max_examples=40)
def test_monotony_generation_numbers_never_fall(
    pushes: list[dict[str, str]], bad: dict[str, str]
) -> None:
    async def story() -> None:
        world = World(POLICY)
        world.hypervisor.behaviour = lambda m: (
            bad.get(m.vm, "good") if m.generation % 2 == 0 else "good"
        )
        highest: dict[str, int] = {}
        for content in pushes:
            await world.push(fleet(content, 2))
            await world.settle()
            for gone in set(highest) - set(world.ledger.record().vms):
                del highest[gone]  # a VM that left and comes back begins anew
            for record in world.ledger.record().vms.values():
                assert record.next_number >= highest.get(record.name, 0)
                highest[record.name] = record.next_number

    run(story())


def test_a_pass_never_stops_and_starts_the_same_vm() -> None:
    async def story() -> None:
        world = World(POLICY)
        await world.push(fleet(dict.fromkeys(NAMES, "v1"), 2))
        await world.settle()
        await world.push(fleet(dict.fromkeys(NAMES, "v2"), 2))
        for _ in range(40):
            await world.step()
            passed = world.reconciler.passed
            assert passed is not None
            touched = [a.vm for a in passed.plan.actions if isinstance(a, StartGuest | StopGuest)]
            assert len(touched) == len(set(touched))
            world.clock.advance(0.5)

    run(story())
