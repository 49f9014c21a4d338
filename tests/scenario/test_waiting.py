"""What a VM waits for, since when and until when, as `why` and `status` tell it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from reconciler.model.desired import DesiredState, GroupSpec, UpdateWindow
from reconciler.model.names import GroupName, VMName
from reconciler.model.request import Resume, RollbackTo, Suspend
from reconciler.model.status import WaitStatus
from tests.world import World, state, vm

G = GroupSpec(GroupName("g"))


def fleet(content: str, group: GroupSpec = G) -> DesiredState:
    return state(
        *(vm(name, content, group="g", min_healthy=1.0) for name in ("a", "b")), groups=(group,)
    )


async def settled(content: str = "v1", group: GroupSpec = G) -> World:
    return await World.settled(fleet(content, group))


def waits(world: World, name: str) -> dict[str, WaitStatus]:
    found = next(status for status in world.status().vms if status.name == name)
    assert found.why == "; ".join(dict.fromkeys(wait.why for wait in found.waits))
    return {wait.kind: wait for wait in found.waits}


async def test_a_vm_that_is_well_waits_for_nothing() -> None:
    assert waits(await settled(), "a") == {}


async def test_a_closed_window_tells_when_it_opens() -> None:
    world = await settled()
    now = datetime.fromtimestamp(world.clock.now().wall, UTC)
    opens = now.replace(hour=(now.hour + 2) % 24, minute=0, second=0, microsecond=0)
    spec = replace(G, windows=(UpdateWindow(f"0 {opens.hour} * * *", 60.0),))
    await world.push(fleet("v2", spec))
    while "window" not in waits(world, "a"):
        await world.step()
    until = waits(world, "a")["window"].until_wall
    assert until is not None
    at = datetime.fromtimestamp(until, UTC)
    assert (at.hour, at.minute, at.second) == (opens.hour, 0, 0)


@pytest.mark.parametrize("subject", ["a", "g", None])
async def test_a_suspension_tells_when_it_began_and_when_it_ends(subject: str | None) -> None:
    world = await settled()
    began = world.clock.now().wall
    await world.ask(Suspend(subject, "night", 600.0))
    await world.push(fleet("v2"))
    world.clock.advance(60.0)
    await world.step()
    wait = waits(world, "a")["suspended"]
    assert (wait.since_wall, wait.until_wall) == (round(began), round(began + 600))
    assert ("suspended" in waits(world, "b")) == (subject != "a")
    await world.ask(Resume(subject))
    await world.settle()
    assert waits(world, "a") == {}


async def test_a_condemned_digest_and_the_hold_it_brought_tell_since_when() -> None:
    world = await settled(group=replace(G, canary=(VMName("a"),)))
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    await world.push(fleet("v2", replace(G, canary=(VMName("a"),))))
    await world.settle()
    block, hold = world.record("a").blocked[0], world.hold("g")
    assert hold is not None
    blocked, held = waits(world, "a")["blocked"], waits(world, "b")["hold"]
    assert (blocked.since_wall, blocked.until_wall) == (round(block.last_wall), None)
    assert (held.since_wall, held.until_wall) == (round(hold.since_wall), None)


async def test_a_trial_tells_when_its_guest_started_and_its_deadline() -> None:
    world = await settled()
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    await world.push(fleet("v2"))
    while "starting" not in waits(world, "a"):
        await world.step()
        world.clock.advance(0.5)
    wait = waits(world, "a")["starting"]
    assert wait.since_wall is not None
    assert wait.until_wall is not None
    assert 29 <= wait.until_wall - wait.since_wall <= 31, "its startupDeadline is 30s"


async def test_a_persons_rollback_tells_since_when_it_holds() -> None:
    world = await settled()
    await world.push(fleet("v2"))
    await world.settle()
    asked = world.clock.now().wall
    await world.ask(RollbackTo("a"))
    await world.settle()
    assert waits(world, "a")["pinned"].since_wall == round(asked)
