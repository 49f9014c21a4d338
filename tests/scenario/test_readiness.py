"""Readiness and liveness: may it serve, and must it be restarted."""

from __future__ import annotations

from reconciler.model.desired import GroupSpec
from reconciler.model.names import GroupName
from tests.world import World, state, vm


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
