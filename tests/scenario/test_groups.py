"""Rollouts of groups: canaries, failures, deadlines, windows, people."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from reconciler.errors import RequestRefused
from reconciler.model.desired import DesiredState, GroupSpec, UpdateWindow
from reconciler.model.names import GroupName, VMName
from reconciler.model.policy import Policy
from reconciler.model.request import Abort, Confirm, Promote, Resume, Retry, Suspend
from reconciler.planning.rollout.windows import opening
from tests.world import World, state, vm

NAMES = ("a", "b", "c")


def fleet(content: str, group: GroupSpec, **special: str) -> DesiredState:
    return state(
        *(vm(n, special.get(n, content), group="g", min_healthy=1.0) for n in NAMES),
        groups=(group,),
    )


def group(**fields: object) -> GroupSpec:
    return replace(GroupSpec(GroupName("g")), **fields)  # type: ignore[arg-type]  # fields by name


async def settled_at(content: str, spec: GroupSpec) -> World:
    return await World.settled(fleet(content, spec))


@pytest.mark.shows(comparison=11)
async def test_the_canary_moves_first_and_soaks_before_the_others() -> None:
    spec = group(canary=(VMName("b"),), canary_soak=60.0)
    world = await settled_at("v1", spec)
    await world.push(fleet("v2", spec))
    await world.run(30)
    assert world.hypervisor.running() == {"a": 1, "b": 2, "c": 1}
    assert "canary b soaks" in world.why("a")
    await world.settle()
    assert world.hypervisor.running() == {"a": 2, "b": 2, "c": 2}


async def test_guests_that_nobody_has_asked_yet_are_not_taken_for_broken() -> None:
    """A daemon that was just started does not know who serves: decision 0007."""
    world = await settled_at("v1", group())
    for guest in world.hypervisor.guests.values():
        guest.fate = "unasked"
    await world.restart()
    await world.push(fleet("v2", group()))
    await world.run(60)
    assert world.hypervisor.running() == {"a": 1, "b": 1, "c": 1}
    assert "maxUnavailable" in world.why("a")
    for guest in world.hypervisor.guests.values():
        guest.fate = "good"
    await world.settle()
    assert world.hypervisor.running() == {"a": 2, "b": 2, "c": 2}


async def test_a_failing_canary_keeps_the_others_from_moving() -> None:
    spec = group(canary=(VMName("b"),))
    world = await settled_at("v1", spec)
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    await world.push(fleet("v2", spec))
    await world.settle()
    assert world.hypervisor.running() == {"a": 1, "b": 1, "c": 1}
    assert world.hypervisor.starts == {"a": 1, "b": 3, "c": 1}


async def test_a_failure_sends_the_whole_group_back_if_asked_to() -> None:
    spec = group(on_failure="rollbackGroup")
    world = await settled_at("v1", spec)
    world.hypervisor.behaviour = lambda m: "bad" if (m.vm, m.generation) == ("c", 2) else "good"
    await world.push(fleet("v2", spec))
    await world.settle()
    assert world.hypervisor.running() == {"a": 1, "b": 1, "c": 1}
    assert "goes back: c failed" in world.why("a")
    await world.push(fleet("v3", spec))
    await world.settle()
    assert set(world.hypervisor.running().values()) == {3}


async def test_continue_goes_on_past_failures_up_to_a_number() -> None:
    spec = group(on_failure="continue", max_failures=1)
    world = await settled_at("v1", spec)
    world.hypervisor.behaviour = lambda m: "bad" if (m.vm, m.generation) == ("a", 2) else "good"
    await world.push(fleet("v2", spec))
    await world.settle()
    assert world.hypervisor.running() == {"a": 1, "b": 2, "c": 2}
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 3 else "good"
    await world.push(fleet("v3", spec))
    await world.settle()
    assert world.hypervisor.running() == {"a": 1, "b": 2, "c": 2}
    assert world.hypervisor.starts["c"] == 2, "two failures are one too many: c was never tried"


async def test_a_rollout_without_progress_is_held() -> None:
    spec = group(progress_deadline=20.0)
    world = await settled_at("v1", spec)
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    await world.push(fleet("v2", spec))
    await world.run(25)
    held = world.hold("g")
    assert held is not None
    assert "progressDeadline 20s" in held.reason
    await world.settle()
    assert world.hypervisor.running() == {"a": 1, "b": 1, "c": 1}


async def test_a_group_waits_for_its_window_and_moves_in_it() -> None:
    world = await settled_at("v1", group())
    now = datetime.fromtimestamp(world.clock.now().wall, ZoneInfo("UTC"))
    opens = f"{now.minute} {(now.hour + 1) % 24} * * *"
    spec = group(windows=(UpdateWindow(opens, 1800.0),))
    await world.push(fleet("v2", spec))
    await world.run(20)
    assert world.hypervisor.running() == {"a": 1, "b": 1, "c": 1}
    assert "outside of window" in world.why("a")
    world.clock.advance(3600.0)
    await world.settle()
    assert set(world.hypervisor.running().values()) == {2}


async def test_what_is_down_is_repaired_outside_of_the_window() -> None:
    world = await settled_at("v1", group())
    world.hypervisor.behaviour = lambda m: "bad" if (m.vm, m.generation) == ("a", 1) else "good"
    world.hypervisor.kill("a")
    await world.run(10)
    await world.push(fleet("v2", group(windows=(UpdateWindow("0 0 1 1 *", 60.0),))))
    await world.run(30)
    assert world.hypervisor.running() == {"a": 2, "b": 1, "c": 1}


@pytest.mark.parametrize(
    ("moment", "is_open"),
    [
        ("2026-03-29T01:59:00+01:00", False),
        ("2026-03-29T03:01:00+02:00", True),  # 02:30 does not exist: it starts after the gap
        ("2026-10-25T02:31:00+02:00", True),
        ("2026-06-01T02:29:00+02:00", False),
        ("2026-06-01T02:30:00+02:00", True),
        ("2026-06-01T03:30:00+02:00", False),
    ],
)
def test_windows_follow_the_wall_clock_of_their_zone_over_its_changes(
    moment: str,
    is_open: bool,  # noqa: FBT001
) -> None:
    window = UpdateWindow("30 2 * * *", 3600.0, "Europe/Berlin")
    assert opening((window,), datetime.fromisoformat(moment).timestamp()).open is is_open


def test_a_denying_window_wins() -> None:
    moment = datetime(2026, 6, 1, 12, 0, tzinfo=ZoneInfo("UTC")).timestamp()
    allow, deny = UpdateWindow("0 * * * *", 3600.0), UpdateWindow("0 12 * * *", 600.0, allow=False)
    assert not opening((allow, deny), moment).open
    assert opening((allow, deny), moment + 601).open
    assert opening((deny,), moment + 601).open


async def test_manual_approval_waits_for_promote_after_the_canary() -> None:
    spec = group(approval="manual", canary=(VMName("a"),))
    world = await settled_at("v1", spec)
    await world.push(fleet("v2", spec))
    await world.run(20)
    assert world.hypervisor.running() == {"a": 2, "b": 1, "c": 1}
    assert "reconciler promote g" in world.why("b")
    await world.ask(Promote("g"))
    await world.settle()
    assert set(world.hypervisor.running().values()) == {2}
    await world.push(fleet("v3", spec))
    await world.run(20)
    assert world.hypervisor.running() == {"a": 3, "b": 2, "c": 2}


async def test_an_aborted_rollout_goes_back_where_it_is_on_trial_and_stays() -> None:
    world = await settled_at("v1", group())
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    await world.push(fleet("v2", group()))
    await world.run(5)
    assert world.hypervisor.running()[VMName("a")] == 2
    await world.ask(Abort("g", "not today"))
    await world.settle()
    assert world.hypervisor.running() == {"a": 1, "b": 1, "c": 1}
    assert "not today" in world.why("b")
    world.hypervisor.behaviour = lambda _m: "good"
    await world.ask(Retry("a"))
    await world.settle()
    assert len(set(world.hypervisor.running().values()) & {1}) == 0


async def test_nothing_under_way_cannot_be_aborted() -> None:
    world = await settled_at("v1", group())
    with pytest.raises(RequestRefused, match="no rollout under way"):
        await world.ask(Abort("g"))


@pytest.mark.shows(comparison=14)
async def test_clocks_stand_still_while_a_group_is_suspended() -> None:
    world = await settled_at("v1", group())
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    await world.push(fleet("v2", group()))
    await world.run(5)
    await world.ask(Suspend("g", "debugging"))
    await world.run(120)
    assert world.hypervisor.running()[VMName("a")] == 2, "its startupDeadline of 30 s did not fire"
    await world.ask(Resume("g"))
    await world.run(20)
    assert world.hypervisor.running()[VMName("a")] == 2, "and begins anew"
    await world.settle()
    assert world.hypervisor.running()[VMName("a")] == 1


async def test_a_suspension_with_an_end_ends_by_itself() -> None:
    world = await settled_at("v1", group())
    await world.ask(Suspend(None, "maintenance", seconds=60.0))
    await world.push(fleet("v2", group()))
    await world.run(50)
    assert set(world.hypervisor.running().values()) == {1}
    await world.run(20)
    await world.settle()
    assert set(world.hypervisor.running().values()) == {2}


@pytest.mark.shows(promise=2)
async def test_many_failures_within_the_hour_stop_all_changes_to_what_serves() -> None:
    world = World(
        Policy("/state", memory_reserve_mib=0, disk_reserve_mib=0, max_rollbacks_per_hour=2)
    )
    names = [f"vm-{i}" for i in range(6)]
    await world.push(state(*(vm(n, "v1", min_healthy=1.0) for n in names)))
    await world.settle()
    world.hypervisor.behaviour = lambda m: "exits" if m.generation == 2 else "good"
    await world.push(state(*(vm(n, "v2", min_healthy=1.0, after=(names[i - 1],) if i else ())
                             for i, n in enumerate(names))))  # fmt: skip
    await world.settle()
    for name in names:
        await world.push(
            state(*(vm(n, f"v3{name}" if n <= name else "v1", min_healthy=1.0) for n in names))
        )
        await world.run(30)
    assert any("max_rollbacks_per_hour" in wait for wait in world.status().waits)
    assert set(world.hypervisor.running()) == set(names)


async def test_confirmed_removals_may_exceed_max_delete() -> None:
    world = World(Policy("/state", prune=True, max_delete=1, memory_reserve_mib=0))
    await world.push(state(*(vm(n) for n in NAMES)))
    await world.settle()
    await world.push(state(vm("a")))
    await world.settle()
    assert len(world.hypervisor.running()) == 3
    desired = world.reconciler.desired
    assert desired is not None
    with pytest.raises(RequestRefused, match="not the desired revision"):
        await world.ask(Confirm("0000000"))
    await world.ask(Confirm(desired.revision[:8]))
    await world.settle()
    assert world.hypervisor.running() == {"a": 1}


@pytest.mark.shows(comparison=8, fault=21)
async def test_a_broken_member_does_not_wait_for_a_canary_that_waits_for_its_budget() -> None:
    spec = group(canary=(VMName("b"),))
    world = World()
    world.hypervisor.behaviour = lambda m: "bad" if (m.vm, m.generation) == ("a", 1) else "good"
    await world.push(fleet("v1", spec))
    await world.settle()
    assert world.hypervisor.running() == {"b": 1, "c": 1}
    await world.push(fleet("v2", spec))
    await world.settle()
    assert world.hypervisor.running() == {"a": 2, "b": 2, "c": 2}
