"""Rows 42-44 and 48-50 of the fault matrix: rollouts that flap, pile up, or lose their way back."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from reconciler.model.desired import DesiredState, GroupSpec
from reconciler.model.names import GroupName, VMName
from reconciler.model.policy import Policy
from tests.fakes.faults import Fault
from tests.world import World, state, vm

PRUNING = Policy("/state", prune=True, memory_reserve_mib=0, disk_reserve_mib=0)


@pytest.mark.shows(comparison=1, row=42)
async def test_row_42_flapping_health_starts_the_soak_anew_and_the_deadline_ends_it() -> None:
    world = await World.settled(state(vm("web")))
    await world.push(state(vm("web", "v2", min_healthy=5.0)))
    while world.hypervisor.running() != {"web": 2}:
        await world.step()
    began = world.clock.now().boot
    while world.hypervisor.running() == {"web": 2}:
        # Four seconds well, one second ill: never five in a row, and never ill for long enough.
        ill = (world.clock.now().boot - began) % 5 >= 4
        world.hypervisor.living("web").fate = "bad" if ill else "good"
        await world.step()
        assert world.generation("web", 2).verdict != "committed"
        world.clock.advance(0.5)
    await world.settle()
    assert world.hypervisor.running() == {"web": 1}
    evidence = world.generation("web", 2).evidence
    assert evidence is not None
    assert evidence.kind == "startup-timeout"


@pytest.mark.shows(row=43)
async def test_row_43_what_the_old_guest_answered_never_counts_for_the_new_one() -> None:
    world = await World.settled(state(vm("web")))
    world.clock.advance(3600.0)
    await world.step()
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    await world.push(state(vm("web", "v2", min_healthy=10.0)))
    await world.settle()
    assert world.generation("web", 2).verdict == "condemned"
    assert world.hypervisor.running() == {"web": 1}


@pytest.mark.shows(row=44)
async def test_row_44_a_revision_that_is_bad_for_500_vms_takes_no_more_down_than_allowed() -> None:
    groups = tuple(GroupSpec(GroupName(f"g{n}")) for n in range(20))

    def fleet(content: str) -> DesiredState:
        members = [
            vm(f"vm-{n:03}", content, group=f"g{n % 20}", min_healthy=1.0) for n in range(500)
        ]
        return state(*members, groups=groups)

    world = await World.settled(
        fleet("v1"), replace(PRUNING, max_builds=500, max_rollbacks_per_hour=1000)
    )
    world.hypervisor.behaviour = lambda m: "exits" if m.generation == 2 else "good"
    least = []
    world.on_pass = lambda: least.append(len(world.hypervisor.running()))
    await world.push(fleet("v2"))
    await world.settle()
    assert min(least) == 480, "one a group"
    assert len(world.events("rolled-back")) == 20
    assert set(world.hypervisor.running().values()) == {1}
    assert len(world.hypervisor.running()) == 500
    assert all(world.hold(group.name) is not None for group in groups)


@pytest.mark.shows(comparison=17, promise=2, fault=8, row=44)
async def test_row_44_of_many_vms_without_a_group_no_more_fail_than_may_within_the_hour() -> None:
    names = [f"vm-{n:02}" for n in range(50)]
    world = await World.settled(state(*map(vm, names)), replace(PRUNING, max_builds=50))
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    least = []
    world.on_pass = lambda: least.append(sum(n == 1 for n in world.hypervisor.running().values()))
    await world.push(state(*(vm(name, "v2") for name in names)))
    await world.run(120.0)
    assert min(least) == 40
    assert len(world.events("rolled-back")) == 10
    assert world.hypervisor.running() == dict.fromkeys(names, 1)


@pytest.mark.shows(row=44)
async def test_row_44_a_good_revision_reaches_many_vms_without_a_group_a_few_at_a_time() -> None:
    names = [f"vm-{n:02}" for n in range(50)]
    world = await World.settled(state(*map(vm, names)), replace(PRUNING, max_builds=50))
    trials: list[int] = []
    world.on_pass = lambda: trials.append(
        sum(world.record(n).generations[-1].verdict == "trial" for n in names)
    )
    await world.push(state(*(vm(name, "v2") for name in names)))
    await world.settle()
    assert max(trials) == 10
    assert world.hypervisor.running() == dict.fromkeys(names, 2)


@pytest.mark.shows(row=44)
async def test_row_44_after_many_failures_within_the_hour_nothing_that_serves_is_changed() -> None:
    names = [f"vm-{n}" for n in range(6)]
    groups = (GroupSpec(GroupName("g"), on_failure="continue"),)
    policy = Policy("/s", memory_reserve_mib=0, disk_reserve_mib=0, max_rollbacks_per_hour=3)

    def fleet(content: str) -> DesiredState:
        return state(*(vm(n, content, group="g", min_healthy=1.0) for n in names), groups=groups)

    world = await World.settled(fleet("v1"), policy)
    world.hypervisor.behaviour = lambda m: "exits" if m.generation == 2 else "good"
    await world.push(fleet("v2"))
    await world.run(600.0)
    assert len(world.events("rolled-back")) == 3
    assert "max_rollbacks_per_hour" in world.why("vm-5")
    assert world.hypervisor.running() == dict.fromkeys(names, 1)
    world.hypervisor.behaviour = lambda _m: "good"
    world.clock.advance(3600.0)
    await world.settle()
    assert world.hypervisor.running()[VMName("vm-5")] == 2, "and goes on when the hour is over"


@pytest.mark.parametrize(("days", "runs"), [(-400.0, 2), (-1 / 48, 1)])
async def test_row_44_failures_of_a_clock_that_was_far_ahead_hold_nobody_for_long(
    days: float, runs: int
) -> None:
    policy = Policy("/s", memory_reserve_mib=0, disk_reserve_mib=0, max_rollbacks_per_hour=1)
    world = await World.settled(state(vm("web"), vm("db")), policy)
    world.hypervisor.behaviour = lambda m: (
        "exits" if m.vm == "web" and m.generation == 2 else "good"
    )
    await world.push(state(vm("web", "v2"), vm("db")))
    await world.settle()
    assert len(world.events("rolled-back")) == 1
    world.clock.step_wall(days * 86_400.0)
    await world.push(state(vm("web", "v2"), vm("db", "v2")))
    await world.run(60.0)
    assert world.hypervisor.running()[VMName("db")] == runs


@pytest.mark.shows(comparison=17, row=44)
async def test_row_44_a_host_out_of_breath_has_no_more_guests_started_again_than_it_bears() -> None:
    groups = tuple(GroupSpec(GroupName(f"g{n}")) for n in range(10))
    members = [vm(f"vm-{n:02}", group=f"g{n % 10}", min_healthy=1.0) for n in range(50)]
    world = await World.settled(state(*members, groups=groups), replace(PRUNING, max_builds=50))
    least = []
    world.on_pass = lambda: least.append(len(world.hypervisor.running()))
    for guest in world.hypervisor.guests.values():
        guest.fate = "bad"
    await world.run(10.0)
    assert min(least) == 49
    assert any("the host is suspect" in world.why(member.name) for member in members)
    world.hypervisor.kill("vm-30")
    world.hypervisor.kill("vm-31")
    await world.run(5.0)
    assert world.hypervisor.starts["vm-30"] == world.hypervisor.starts["vm-31"] == 2, (
        "gone: at once"
    )
    await world.settle(3600.0)
    assert len(world.hypervisor.running()) == 50
    assert min(least) >= 50 - 2 - PRUNING.max_repairs


@pytest.mark.shows(law=8, row=48)
async def test_row_48_collection_in_the_middle_of_rollouts_takes_nothing_that_is_needed() -> None:
    world = await World.settled(state(vm("web"), vm("db")))

    def needed() -> None:
        for name, number in world.hypervisor.running().items():
            good = world.record(name).last_good
            for spec in (world.generation(name, number).spec, good.spec if good else None):
                keys = {layer.key for layer in spec.layers} if spec else set()
                assert keys <= world.images.layers(), f"{name} lacks what it runs or goes back to"

    world.on_pass = needed
    world.hypervisor.behaviour = lambda m: "bad" if m.generation % 3 == 0 else "good"
    for number in range(2, 14):
        await world.push(state(vm("web", f"v{number}"), vm("db", f"v{number // 2}")))
        await world.run(20.0)
    await world.settle()
    assert len(world.images.collected) > 5, "there was much to collect"


@pytest.mark.shows(comparison=3, row=49)
async def test_row_49_a_way_back_that_is_missing_and_cannot_be_made_refuses_the_update() -> None:
    world = await World.settled(state(vm("web")))
    layer = vm("web").layers[0].key
    world.images.lose(layer)
    world.images.bad.add(layer)
    await world.push(state(vm("web", "v2")))
    await world.run(120.0)
    assert world.hypervisor.running() == {"web": 1}
    assert world.hypervisor.stops["web"] == 0
    assert any("the way back lacks" in wait.why for wait in world.status().vms[0].waits)
    await world.push(state(vm("web", "v2"), vm("first")))
    await world.run(20.0)
    assert world.hypervisor.running() == {"web": 1, "first": 1}, "a first one has no way back"


@pytest.mark.shows(comparison=3, row=49)
async def test_row_49_a_way_back_that_is_missing_is_made_again_before_anything_stops() -> None:
    world = await World.settled(state(vm("web")))
    world.images.lose(vm("web").layers[0].key)
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    await world.push(state(vm("web", "v2")))
    await world.settle()
    assert world.images.built.count(vm("web").layers[0].key) == 2
    assert world.hypervisor.running() == {"web": 1}
    assert world.events("rolled-back")


FAILING: tuple[Fault, ...] = ("error", "hang")


@pytest.mark.shows(comparison=5, row=50)
@pytest.mark.parametrize("fault", FAILING)
async def test_row_50_a_rollback_whose_start_fails_or_hangs_ends_in_quarantine_in_time(
    fault: Fault,
) -> None:
    world = await World.settled(state(vm("web"), vm("other")))
    world.hypervisor.behaviour = lambda m: "exits" if m.generation == 2 else "good"
    starts = itertools.count()
    world.faults.chooser = lambda _n, call: fault if call == "start" and next(starts) > 0 else None
    await world.push(state(vm("web", "v2"), vm("other")))
    while world.record("web").rollback is None:
        await world.step()
        world.clock.advance(0.1)
    began = world.clock.now().boot
    while world.record("web").quarantine is None:
        await world.step()
        world.clock.advance(0.5)
        # 57 s are its rollback's deadline; a start under way is waited for, 45 s at most.
        assert world.clock.now().boot - began < 57 + 45 + 1
    await world.run(600.0)
    assert "rolling back failed: not started in time" in world.why("web")
    assert world.meter.counts["rollback failed"] == 1
    assert world.hypervisor.running() == {"other": 1}
