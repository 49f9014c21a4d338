"""A host that lives for years: what is remembered is of what is there, not of all that ever was."""

from __future__ import annotations

from reconciler.model.desired import DesiredState, GroupSpec
from reconciler.model.names import GroupName
from reconciler.model.policy import Policy
from reconciler.model.request import Suspend
from tests.world import World, state, vm

ROUNDS = 60


def commit(number: int) -> DesiredState:
    """A VM that stays and changes, and one with a group of its own that is gone with the next commit."""
    group = GroupSpec(GroupName(f"group-{number}"), progress_deadline=600.0)
    guest = vm(f"guest-{number}", group=group.name, min_healthy=0.0)
    return state(vm("web", f"v{number}", min_healthy=0.0), guest, groups=(group,))


async def test_commits_that_come_and_go_leave_no_more_than_the_last_of_them() -> None:
    world = World(Policy("/state", memory_reserve_mib=0, disk_reserve_mib=0, prune=True))
    sizes = []
    for number in range(ROUNDS):
        desired = commit(number)
        if number % 3 == 2:
            world.images.bad.add(desired.vms[vm(f"guest-{number}").name].layers[0].key)
        await world.push(desired)
        await world.run(30.0)
        record = world.ledger.record()
        sizes.append((len(record.vms), len(record.groups), len(record.builds)))
    assert max(vms for vms, _, _ in sizes[5:]) <= 3
    assert max(groups for _, groups, _ in sizes) <= 1
    assert max(troubles for _, _, troubles in sizes) <= 1
    kept = sum(len(one.generations) for one in world.ledger.record().vms.values())
    assert kept <= 2 * world.policy.generations_kept
    writes = world.ledger.writes
    await world.run(60.0)
    assert world.ledger.writes == writes, "what was forgotten is not forgotten anew"


async def test_a_build_that_failed_is_remembered_while_somebody_wants_it() -> None:
    world = await World.settled(state(vm("web"), vm("db")))
    bad = vm("web", "v2")
    world.images.bad.add(bad.layers[0].key)
    await world.push(state(bad, vm("db")))
    await world.run(30.0)
    await world.push(state(bad, vm("db", "v2")))
    await world.run(30.0)
    assert set(world.ledger.record().builds) == {bad.layers[0].key}
    await world.push(state(vm("web", "v3"), vm("db", "v2")))
    await world.settle()
    assert world.ledger.record().builds == {}


async def test_a_group_that_a_person_suspended_is_so_when_it_comes_back() -> None:
    world = await World.settled(state(vm("web", group="front"), vm("db")))
    await world.ask(Suspend("front"))
    await world.push(state(vm("db")))
    await world.run(30.0)
    await world.push(state(vm("web", "v2", group="front"), vm("db")))
    await world.run(30.0)
    assert world.hypervisor.running()[vm("web").name] == 1
    assert "group front is suspended" in world.why("web")
