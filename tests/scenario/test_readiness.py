"""Readiness and liveness: may it serve, and must it be restarted."""

from __future__ import annotations

import pytest

from reconciler.model.desired import DesiredState, GroupSpec, UpdateWindow
from reconciler.model.names import GroupName, VMName
from tests.world import World, state, vm

pytestmark = pytest.mark.shows(fault=72)


async def test_a_committed_guest_that_is_not_ready_is_told_so_and_not_restarted() -> None:
    world = await World.settled(state(vm("web", purpose="readiness")))
    guest = world.hypervisor.living("web")
    guest.fate = "unready"
    await world.run(600)
    assert world.hypervisor.starts["web"] == 1
    (web,) = world.status().vms
    assert not web.healthy
    assert web.state == "running"
    assert web.why.startswith("not ready: ")
    assert web.waits[0].since_wall is not None
    (told,) = world.events("guest-not-ready")
    assert told.startswith("web: generation 1 is not ready: ")
    assert world.events("guest-ready") == []
    guest.fate = "good"
    await world.run(5)
    assert world.status().vms[0].healthy
    assert dict(world.record("web").restarts).get("crash", 0) == 0
    assert len(world.events("guest-ready")) == 1
    assert world.record("web").unready is None


async def test_a_guest_that_fails_its_check_of_liveness_is_restarted() -> None:
    world = await World.settled(state(vm("web", purpose="liveness")))
    world.hypervisor.living("web").fate = "bad"
    await world.run(60)
    assert world.events("guest-not-ready") == [], "its restart tells of it"
    assert world.hypervisor.starts["web"] == 2


async def test_a_dependency_that_is_away_restarts_none_of_its_clients() -> None:
    clients = [vm(f"web-{n}", group="front", purpose="readiness") for n in range(4)]
    world = await World.settled(state(vm("db"), *clients))
    for client in clients:
        world.hypervisor.living(client.name).fate = "unready"
    await world.run(300)
    assert {world.hypervisor.starts[c.name] for c in clients} == {1}


async def test_a_trial_needs_readiness_and_liveness() -> None:
    world = await World.settled(state(vm("web", purpose="readiness")))
    world.hypervisor.behaviour = lambda machine: "unready" if machine.generation == 2 else "good"
    await world.push(state(vm("web", "v2", purpose="readiness")))
    await world.settle()
    assert world.generation("web", 2).verdict == "condemned"
    assert world.hypervisor.living("web").machine.generation == 1


async def test_a_member_that_is_not_ready_uses_up_the_budget_of_its_group() -> None:
    group = GroupSpec(GroupName("front"), max_unavailable=1)
    members = [vm(n, group="front", purpose="readiness") for n in ("a", "b")]
    world = await World.settled(state(*members, groups=(group,)))
    world.hypervisor.living("a").fate = "unready"
    await world.run(60)
    changed = vm("b", "v2", group="front", purpose="readiness")
    await world.push(state(members[0], changed, groups=(group,)))
    await world.run(10)
    assert world.hypervisor.living("b").machine.generation == 1
    assert "maxUnavailable of group front is used up by a" in world.why("b")
    world.hypervisor.living("a").fate = "good"
    await world.settle()
    assert world.hypervisor.living("b").machine.generation == 2


async def test_a_fix_reaches_a_guest_that_is_not_ready() -> None:
    world = await World.settled(state(vm("web", purpose="readiness")))
    world.hypervisor.living("web").fate = "unready"
    await world.run(60)
    await world.push(state(vm("web", "v2", purpose="readiness")))
    await world.settle()
    assert world.status().vms[0].healthy
    assert world.hypervisor.living("web").machine.generation == 2


async def test_a_new_daemon_restarts_no_guest_that_is_not_ready() -> None:
    world = await World.settled(state(vm("web", purpose="readiness")))
    guest = world.hypervisor.living("web")
    guest.fate = "unready"
    await world.run(60)
    guest.said = type(guest.said)()
    await world.restart()
    await world.run(300)
    assert world.hypervisor.starts["web"] == 1


CLIENTS = ("a", "b", "c", "d")


def clients(content: str) -> DesiredState:
    """A group whose canary is the first; all need the same thing elsewhere."""
    group = GroupSpec(GroupName("front"), canary=(VMName("a"),), max_unavailable=1)
    members = [vm(n, content, group="front", purpose="readiness") for n in CLIENTS]
    return state(*members, groups=(group,))


@pytest.mark.shows(fault=96)
async def test_a_change_of_guests_that_are_only_not_ready_goes_by_the_canary() -> None:
    world = await World.settled(clients("v1"))
    for name in CLIENTS:
        world.hypervisor.living(name).fate = "unready"
    await world.run(60)
    world.hypervisor.behaviour = lambda machine: "exits" if machine.generation == 2 else "good"
    await world.push(clients("v2"))
    await world.run(30)
    assert [n for n in CLIENTS if world.record(n).blocked] == ["a"]
    assert [world.hypervisor.starts[n] for n in CLIENTS[1:]] == [1, 1, 1]


@pytest.mark.shows(fault=96)
async def test_guests_that_are_not_ready_change_one_by_one_where_their_canary_waits_for_them() -> (
    None
):
    world = await World.settled(clients("v1"))
    for name in CLIENTS[1:]:
        world.hypervisor.living(name).fate = "unready"
    await world.run(60)
    most = 0

    def look() -> None:
        nonlocal most
        newest = [world.record(n).generations[-1] for n in CLIENTS]
        most = max(most, sum(g.number == 2 and g.verdict == "trial" for g in newest))

    world.on_pass = look
    await world.push(clients("v2"))
    await world.settle()
    assert set(world.hypervisor.running().values()) == {2}, "the fix reaches all of them"
    assert most == 1


@pytest.mark.shows(fault=95)
async def test_a_fix_outside_of_the_window_stops_a_guest_that_is_not_ready_once() -> None:
    group = GroupSpec(GroupName("front"), windows=(UpdateWindow("0 0 1 1 *", 60.0),))
    world = await World.settled(
        state(vm("web", group="front", purpose="readiness"), groups=(group,))
    )
    world.hypervisor.living("web").fate = "unready"
    world.hypervisor.behaviour = lambda machine: "unready" if machine.generation == 1 else "good"
    await world.run(60)
    await world.push(state(vm("web", "v2", group="front", purpose="readiness"), groups=(group,)))
    await world.run(120)
    assert world.hypervisor.running() == {"web": 2}
    assert world.hypervisor.stops["web"] == 1


@pytest.mark.shows(fault=95)
async def test_a_fix_that_waits_for_a_window_stops_a_guest_that_turns_ill_once() -> None:
    group = GroupSpec(GroupName("front"), windows=(UpdateWindow("0 0 1 1 *", 60.0),))
    world = await World.settled(state(vm("web", group="front"), groups=(group,)))
    await world.push(state(vm("web", "v2", group="front"), groups=(group,)))
    await world.run(60)
    assert world.hypervisor.stops["web"] == 0
    world.hypervisor.living("web").fate = "bad"
    world.hypervisor.behaviour = lambda machine: "sick" if machine.generation == 1 else "good"
    await world.run(120)
    assert world.hypervisor.running() == {"web": 2}
    assert world.hypervisor.stops["web"] == 1
