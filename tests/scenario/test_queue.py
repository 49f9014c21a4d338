"""What the faces say of a rollout is what the planner then does."""

from __future__ import annotations

import time

from reconciler.explain.queue import group_queue
from reconciler.model.desired import DesiredState, GroupSpec
from reconciler.model.names import GroupName, VMName
from reconciler.model.status import GenerationNumbers, GroupStatus
from tests.unit.control.fake_operator import number, vm as fake_vm
from tests.world import World, state, vm

FRONT = GroupSpec(
    GroupName("front"), max_unavailable=1, canary=(VMName("d"),), progress_deadline=120.0
)
OLDER = GenerationNumbers(number(1), number(2), number(1))
AFTER = {"a": ("c",), "e": ("a",)}


def fleet(content: str) -> DesiredState:
    names = ("a", "b", "c", "d", "e")
    return state(
        *(vm(n, content, group="front", min_healthy=1.0, after=AFTER.get(n, ())) for n in names),
        groups=(FRONT,),
    )


def front(world: World) -> GroupStatus:
    return next(group for group in world.status().groups if group.name == "front")


async def settled() -> World:
    return await World.settled(fleet("v1"))


async def test_the_line_that_is_told_is_the_order_in_which_guests_are_replaced() -> None:
    world = await settled()
    before = len(world.hypervisor.log)
    await world.push(fleet("v2"))
    await world.step()
    told = (*front(world).moving, *front(world).line)
    assert sorted(told) == ["a", "b", "c", "d", "e"]
    await world.settle()
    replaced = [name for what, name, _ in world.hypervisor.log[before:] if what == "end"]
    assert list(told) == replaced == ["d", "b", "c", "a", "e"]
    assert (front(world).moving, front(world).line, front(world).held) == ((), (), ())


async def test_at_every_moment_the_one_who_moves_is_named_and_has_a_deadline() -> None:
    world = await settled()
    await world.push(fleet("v2"))
    seen: list[VMName] = []
    for _ in range(200):
        await world.step()
        told = front(world)
        if told.moving and told.moving[0] not in seen:
            seen.append(told.moving[0])
            assert told.deadline_wall is not None
            assert 0 < told.deadline_wall - world.clock.now().wall <= 121
        assert not set(told.moving) & set(told.line)
        world.clock.advance(0.5)
    assert seen == ["d", "b", "c", "a", "e"]
    assert front(world).deadline_wall is None


async def test_after_a_failure_everybody_is_held_and_nobody_is_in_line() -> None:
    world = await settled()
    world.hypervisor.behaviour = lambda m: "bad" if m.vm == "b" and m.generation == 2 else "good"
    await world.push(fleet("v2"))
    await world.settle()
    told = front(world)
    assert told.state == "held"
    assert (told.moving, told.line) == ((), ())
    assert told.held == ("a", "b", "c", "e"), "d was done before"


async def test_who_is_handed_over_is_moving_while_both_of_its_guests_live() -> None:
    def of(content: str) -> DesiredState:
        pair = (vm(n, content, group="front", min_healthy=1.0, handover=True, port=p)
                for n, p in (("a", 8081), ("b", 8082)))  # fmt: skip
        return state(*pair, groups=(GroupSpec(GroupName("front")),))

    world = World()
    await world.push(of("v1"))
    await world.settle()
    await world.push(of("v2"))
    seen: set[tuple[tuple[VMName, ...], tuple[VMName, ...]]] = set()
    for _ in range(100):
        await world.step()
        both = [one.name for one in world.status().vms if one.candidate is not None]
        if both:
            assert set(both) <= set(front(world).moving)
            seen.add((front(world).moving, front(world).line))
        world.clock.advance(0.5)
    assert seen, "there was a moment with two guests"
    assert all(not set(moving) & set(line) for moving, line in seen)


def test_a_line_of_ten_thousand_costs_little_more_than_sorting_it() -> None:
    named = [
        fake_vm(f"vm-{index:05}", sync="out-of-sync", generation=OLDER) for index in range(10_000)
    ]
    canary = GroupSpec(GroupName("frontend"), canary=(VMName("vm-09999"),))
    desired = state(vm("vm-00001", after=("vm-00005",)), groups=(canary,))
    began = time.thread_time()
    told = group_queue(GroupName("frontend"), named, desired).line
    assert time.thread_time() - began < 1.0, "a second is a hundred times what it takes"
    assert told[0] == "vm-09999"
    assert told.index(VMName("vm-00005")) + 1 == told.index(VMName("vm-00001"))
    assert len(told) == 10_000
