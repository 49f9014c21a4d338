"""A rollout's progress deadline counts the time in which a member is on its way, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.model.desired import DesiredState, GroupSpec
from reconciler.model.names import GroupName, Revision, VMName
from reconciler.model.policy import Policy
from reconciler.model.request import Abort
from tests.world import World, listeners, state, vm

pytestmark = pytest.mark.shows(fault=87)

DEADLINE = 60.0
GROUP = GroupSpec(GroupName("g"), progress_deadline=DEADLINE)
NAMES = ("a", "b", "c")


def fleet(content: str, memory: int = 128, port: int = 0) -> DesiredState:
    members = (
        vm(name, content, group="g", memory=memory, port=port + place if port else 0)
        for place, name in enumerate(NAMES)
    )
    return state(*members, groups=(GROUP,))


def strict() -> Policy:
    return Policy(state_dir="/state", memory_reserve_mib=64, disk_reserve_mib=1024)


async def test_a_long_build_is_no_lack_of_progress() -> None:
    world = await World.settled(fleet("v1"))
    world.images.slow = lambda _: 3 * DEADLINE
    await world.push(fleet("v2"))
    await world.run(3 * DEADLINE + 90.0)
    assert world.events("group-held") == []
    await world.settle()
    assert world.hypervisor.running() == {"a": 2, "b": 2, "c": 2}


@pytest.mark.parametrize("lacking", ["memory", "disk", "port", "network"])
async def test_what_the_host_lacks_is_no_lack_of_progress(lacking: str) -> None:
    world = World(strict())
    await world.push(fleet("v1", port=8100))
    await world.settle()
    plenty = world.host.value
    match lacking:
        case "memory":
            world.host.value = replace(plenty, memory_available_mib=100)
        case "disk":
            world.host.value = replace(plenty, disk_free_mib=10)
        case "port":
            world.host.value = replace(plenty, listening=listeners(8200, 8201, 8202))
        case _:
            bridged = (vm(name, "v2", group="g", bridge="absent") for name in NAMES)
            await world.push(state(*bridged, groups=(GROUP,)))
    if lacking != "network":
        await world.push(fleet("v2", memory=4096 if lacking == "memory" else 128, port=8200))
    await world.run(3 * DEADLINE)
    assert world.events("group-held") == []
    assert world.hypervisor.running() == {"a": 1, "b": 1, "c": 1}, "nothing was stopped for it"
    world.host.value = plenty
    await world.push(fleet("v2", memory=4096 if lacking == "memory" else 128, port=8200))
    await world.settle()
    assert world.hypervisor.running() == {"a": 2, "b": 2, "c": 2}


async def test_members_who_wait_for_one_that_waits_for_the_host_are_not_late_either() -> None:
    """`b` and `c` come after the canary, which the host has no memory for."""
    group = replace(GROUP, canary=(VMName("a"),))
    members = (vm(name, "v2", group="g", memory=4096 if name == "a" else 128) for name in NAMES)
    world = World(strict())
    await world.push(state(*(vm(name, "v1", group="g") for name in NAMES), groups=(group,)))
    await world.settle()
    world.host.value = replace(world.host.value, memory_available_mib=100)
    await world.push(state(*members, groups=(group,)))
    await world.run(3 * DEADLINE)
    assert world.events("group-held") == []
    assert "canary a goes first" in world.why("b")


async def test_after_a_shortage_a_member_has_its_whole_time_again() -> None:
    world = World(strict())
    await world.push(fleet("v1"))
    await world.settle()
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    plenty = world.host.value
    world.host.value = replace(plenty, disk_free_mib=10)
    await world.push(fleet("v2"))
    await world.run(2 * DEADLINE)
    world.host.value = plenty
    await world.run(20.0)
    assert world.events("group-held") == [], "it began to move only now"
    assert dict(world.hypervisor.running())[VMName("a")] == 2


@pytest.mark.shows(fault=88)
async def test_a_hold_for_want_of_progress_names_who_was_on_its_way_and_claims_no_failure() -> None:
    """`a` waits for memory and is not blamed; `b` was on its way and did not arrive."""
    group = replace(GROUP, progress_deadline=10.0)
    world = World(strict())
    await world.push(state(*(vm(name, "v1", group="g") for name in NAMES), groups=(group,)))
    await world.settle()
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    world.host.value = replace(world.host.value, memory_available_mib=400)
    members = (vm(name, "v2", group="g", memory=4096 if name == "a" else 128) for name in NAMES)
    await world.push(state(*members, groups=(group,)))
    await world.run(25.0)
    hold = world.hold("g")
    assert hold is not None
    assert (hold.vm, hold.cause) == ("b", "progress")
    assert "failed" not in world.events("group-held")[0]
    assert "b did not become healthy" in world.why("c")


@pytest.mark.shows(fault=88)
async def test_a_hold_of_a_person_claims_no_failure() -> None:
    world = await World.settled(fleet("v1"))
    await world.push(fleet("v2"))
    await world.run(1.0)
    await world.ask(Abort("g", "not today"))
    await world.step()
    group = next(group for group in world.status().groups if group.name == "g")
    assert group.hold == "aborted by a person: not today"


@pytest.mark.shows(fault=97)
async def test_what_did_not_arrive_in_time_is_blamed_on_who_changed_it() -> None:
    policy = replace(GROUP, progress_deadline=10.0)

    def fleet(content: str) -> DesiredState:
        return state(*(vm(n, content, group="g") for n in NAMES), groups=(policy,))

    world = await World.settled(fleet("v1"))
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    changing = fleet("v2")
    await world.push(changing)
    await world.run(3)
    await world.push(replace(changing, revision=Revision("d" * 40)))
    await world.run(12)
    hold = world.hold("g")
    assert hold is not None
    assert (hold.cause, hold.revision) == ("progress", changing.revision)


@pytest.mark.shows(fault=99)
async def test_a_member_that_crashes_again_and_again_is_no_rollout_that_does_not_move() -> None:
    world = await World.settled(fleet("v1"))
    world.hypervisor.behaviour = lambda m: "exits" if m.vm == "a" else "good"
    world.hypervisor.kill("a")
    await world.run(5 * DEADLINE)
    assert world.hold("g") is None
    assert world.events("group-held") == []
