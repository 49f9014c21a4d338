"""`metadata.movedFrom`: a VM goes on under another name, with its generations and its data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler.model.change import PutBuild
from reconciler.model.desired import DesiredState, GroupSpec
from reconciler.model.names import GroupName, VMName
from reconciler.model.policy import Policy
from reconciler.model.record import BuildTrouble
from reconciler.model.request import Retry
from reconciler.now import Deadline
from reconciler.requests.answer import answer
from tests.fakes import Crash
from tests.world import World, state, vm

pytestmark = pytest.mark.shows(fault=80)

PRUNING = Policy("/state", prune=True, max_delete=0, memory_reserve_mib=0, disk_reserve_mib=0)
OLD_DISK, NEW_DISK = "/state/vms/web/volumes/data.raw", "/state/vms/shop/volumes/data.raw"


def web(content: str = "v1", **more: Any) -> Any:
    return vm("web", content, snapshot=True, **more)


def shop(content: str = "v1", old: str = "web", **more: Any) -> Any:
    return vm("shop", content, snapshot=True, moved_from=old, **more)


async def settled(desired: DesiredState) -> World:
    return await World.settled(desired, PRUNING)


@pytest.mark.shows(comparison=21)
async def test_a_renamed_vm_keeps_its_generations_its_history_and_its_volumes() -> None:
    world = await settled(state(web(), vm("other")))
    await world.push(state(shop(), vm("other")))
    await world.settle()
    assert world.hypervisor.running() == {"shop": 2, "other": 1}
    assert [g.number for g in world.record("shop").generations] == [1, 2]
    assert world.hypervisor.disks == {NEW_DISK: [1, 2]}, "one disk, and both wrote to it"
    assert VMName("web") not in world.durable.record().vms
    assert VMName("web") not in world.hypervisor.folders
    assert world.hypervisor.stops["web"] == 1, "one outage"
    assert world.hypervisor.starts["other"] == 1
    assert world.events("vm-renamed")
    assert not world.events("vm-removing"), "no removal: max_delete is 0"


async def test_movedfrom_that_stays_and_movedfrom_that_goes_change_nothing() -> None:
    world = await settled(state(web()))
    for desired in (state(shop()), state(shop(labels={"a": "b"})), state(shop(old=""))):
        await world.push(desired)
        await world.settle()
    assert world.hypervisor.starts["shop"] == 1
    await world.restart()
    await world.settle()
    assert world.hypervisor.starts["shop"] == 1


async def test_a_vm_with_the_same_digest_goes_on_with_its_last_good_generation() -> None:
    world = await settled(state(web()))
    same = replace(web(), name=VMName("shop"), moved_from=VMName("web"))
    await world.push(state(same))
    await world.settle()
    assert world.hypervisor.running() == {"shop": 1}
    assert world.hypervisor.disks == {NEW_DISK: [1, 1]}


async def test_a_rename_to_what_fails_goes_back_under_the_new_name_with_the_old_data() -> None:
    world = await settled(state(web()))
    world.hypervisor.behaviour = lambda m: "exits" if m.generation == 2 else "good"
    await world.push(state(shop()))
    await world.settle()
    assert world.hypervisor.running() == {"shop": 1}
    assert world.hypervisor.disks[NEW_DISK] == [1, 1], "what generation 2 wrote is undone"
    assert world.record("shop").blocked


@pytest.mark.shows(comparison=21)
async def test_the_revert_of_a_rename_brings_the_vm_back_with_its_data() -> None:
    world = await settled(state(web()))
    await world.push(state(shop()))
    await world.settle()
    await world.push(state(web()))
    await world.settle()
    assert set(world.hypervisor.running()) == {"web"}
    assert set(world.hypervisor.disks) == {OLD_DISK}
    assert world.hypervisor.disks[OLD_DISK][:2] == [1, 2]


async def test_a_rename_waits_for_its_images_while_the_vm_serves_under_its_old_name() -> None:
    world = await settled(state(web()))
    world.images.bad.add(shop().layers[0].key)
    await world.push(state(shop()))
    await world.run(60.0)
    assert world.hypervisor.running() == {"web": 1}
    assert world.hypervisor.stops["web"] == 0
    assert "takes over web" in world.why("shop")


@pytest.mark.shows(comparison=21)
async def test_a_rename_keeps_to_the_budget_and_the_order_of_its_group() -> None:
    groups = (GroupSpec(GroupName("g"), canary=(VMName("shop"),), canary_soak=30.0),)
    world = await settled(
        state(web(group="g"), vm("b", group="g"), vm("c", group="g", after=("b",)))
    )
    world.hypervisor.kill("b")
    least = 3

    def look() -> None:
        nonlocal least
        least = min(least, len(world.hypervisor.running()))

    world.on_pass = look
    members = (shop(group="g"), vm("b", "v2", group="g"), vm("c", "v2", group="g", after=("shop",)))
    await world.push(state(*members, groups=groups))
    await world.run(25.0)
    assert world.hypervisor.running() == {"shop": 2, "b": 1, "c": 1}, "the canary soaks"
    await world.settle()
    assert world.hypervisor.running() == {"shop": 2, "b": 2, "c": 2}
    assert least == 2


async def test_what_lies_under_the_new_name_is_seen_before_anything_stops() -> None:
    world = await settled(state(web()))
    world.hypervisor.disks[NEW_DISK] = [7]
    await world.push(state(shop()))
    await world.run(30.0)
    assert world.hypervisor.running() == {"web": 1}
    assert world.hypervisor.stops["web"] == 0
    assert "vms/shop" in world.why("shop")
    assert world.hypervisor.disks[NEW_DISK] == [7]
    del world.hypervisor.disks[NEW_DISK]
    await world.settle()
    assert world.hypervisor.running() == {"shop": 2}


async def test_what_came_to_lie_there_in_between_brings_the_vm_back_under_its_old_name() -> None:
    world = await settled(state(web()))
    await world.push(state(shop()))
    while world.hypervisor.running():
        await world.step()
        world.clock.advance(0.1)
    world.hypervisor.disks[NEW_DISK] = [7]
    await world.run(30.0)
    assert world.hypervisor.running() == {"web": 1}
    del world.hypervisor.disks[NEW_DISK]
    if world.durable.record().builds:
        retry = answer(
            Retry("web"), world.durable.record(), world.reconciler.desired, world.clock.now()
        )
        await world.durable.write(retry.changes)
    await world.settle()
    assert world.hypervisor.disks[NEW_DISK][:2] == [1, 1]


async def test_a_vm_of_its_own_is_not_overwritten_and_the_other_is_kept() -> None:
    world = World(replace(PRUNING, max_delete=5))
    await world.push(state(web(), shop(old="")))
    await world.settle()
    await world.push(state(shop()))
    await world.run(30.0)
    assert world.hypervisor.running() == {"web": 1, "shop": 1}
    assert "has generations of its own" in world.why("web")


async def test_a_guest_on_trial_is_judged_before_it_is_renamed() -> None:
    world = await settled(state(web()))
    same = replace(web("v2"), name=VMName("shop"), moved_from=VMName("web"))
    await world.push(state(web("v2")))
    while world.hypervisor.running() != {"web": 2}:
        await world.step()
        world.clock.advance(0.1)
    await world.push(state(same))
    await world.settle()
    assert world.hypervisor.running() == {"shop": 2}
    assert world.hypervisor.starts == {"web": 2, "shop": 1}


async def test_a_vm_that_never_was_good_is_stopped_and_renamed_and_stays_blocked() -> None:
    world = World(PRUNING)
    world.hypervisor.behaviour = lambda _m: "bad"
    await world.push(state(web()))
    while world.hypervisor.running() != {"web": 1}:
        await world.step()
        world.clock.advance(0.1)
    same = replace(web(), name=VMName("shop"), moved_from=VMName("web"))
    await world.push(state(same))
    await world.settle()
    assert world.hypervisor.running() == {}
    assert set(world.durable.record().vms) == {"shop"}
    assert world.record("shop").blocked


@pytest.mark.shows(fault=12)
async def test_a_rename_of_a_vm_in_quarantine_waits_for_a_person_and_so_is_not_under_way() -> None:
    world = await settled(state(web()))
    world.hypervisor.behaviour = lambda _machine: "bad"
    await world.push(state(web("v2")))
    await world.settle()
    assert world.record("web").quarantine is not None
    await world.push(state(replace(web("v2"), name=VMName("shop"), moved_from=VMName("web"))))
    await world.settle()
    assert {v.name: v.why for v in world.status().vms}.keys() == {"web", "shop"}
    assert "rolling back failed" in world.why("web")
    assert "takes over web, which is in quarantine" in world.why("shop")


@pytest.mark.parametrize(
    "wanted", ["the new name", "the old name again", "a third name", "neither"]
)
@pytest.mark.parametrize("death", ["crash-before", "crash-after"])
@pytest.mark.parametrize("at", range(24))
async def test_a_death_at_any_call_of_a_rename_loses_no_data(
    at: int, death: Any, wanted: str
) -> None:
    world = await settled(state(web(), vm("other")))
    first = world.faults.count
    world.faults.chooser = lambda n, _call: death if n == first + at else None
    try:
        await world.push(state(shop(), vm("other")))
        await world.settle()
    except Crash:
        pass
    if not world.faults.crashed:
        return
    world.faults.crashed = False
    await world.restart()
    third = vm("third", snapshot=True, moved_from="shop")
    ends = {
        "the new name": (shop(),), "the old name again": (web(),), "a third name": (third,),
        "neither": (),
    }  # fmt: skip
    desired = state(*ends[wanted], vm("other"))
    await world.push(desired)
    await world.run(60.0)
    disks = {p: written for p, written in world.hypervisor.disks.items() if "/volumes/" in p}
    assert [written[0] for written in disks.values()].count(1) == len(disks), disks
    assert len(disks) == 1 or wanted == "a third name"
    running = set(world.hypervisor.running()) - {"other"}
    if wanted in ("the new name", "the old name again"):
        assert running == {"shop" if wanted == "the new name" else "web"}


@pytest.mark.parametrize("steps", range(0, 40, 3))
async def test_a_vm_that_is_being_handed_over_is_renamed_when_that_is_settled(steps: int) -> None:
    world = await settled(state(vm("web", handover=True)))
    await world.push(state(vm("web", "v2", handover=True)))
    for _ in range(steps):
        await world.step()
        world.clock.advance(0.2)
    await world.push(state(vm("shop", "v2", handover=True, moved_from="web")))
    await world.settle()
    assert set(world.hypervisor.running()) == {"shop"}
    assert world.last_good("shop").spec.layers == vm("shop", "v2").layers
    assert set(world.hypervisor.folders) == {"shop"}


async def test_a_move_that_was_refused_is_tried_again_when_a_person_says_so() -> None:
    world = await settled(state(web()))
    refused = BuildTrouble(
        "move/web", "move", 1, "vms/shop is there and not empty", definitive=True,
        retry=Deadline(0.0, "boot"),
    )  # fmt: skip
    await world.durable.write([PutBuild(refused)])
    await world.push(state(shop()))
    await world.run(30.0)
    assert world.hypervisor.running() == {"web": 1}
    assert "mend it and `retry`" in world.why("web")
    await world.ask(Retry("web"))
    await world.settle()
    assert world.hypervisor.running() == {"shop": 2}


SLIPS = {
    "a slip of the pen": (state(web(), vm("other")), state(shop(old="wbe"), vm("other"))),
    "a slip while the old one is still declared": (
        state(web(), vm("other")), state(web(), shop(old="wbe"), vm("other")),
    ),
    "a VM that is still declared": (
        state(web(), vm("other")), state(web(), shop(), vm("other")),
    ),
    "another VM, that is declared": (
        state(web(), vm("other")), state(shop(old="other"), vm("other")),
    ),
    "the second of two renames, the first unseen": (
        state(web(), vm("other")), state(shop(old="middle"), vm("other")),
    ),
    "two heirs of one": (
        state(web(), vm("other")),
        state(shop(), vm("twin", snapshot=True, moved_from="web"), vm("other")),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SLIPS)
async def test_a_former_name_that_cannot_be_taken_over_starts_and_removes_nothing(
    case: str,
) -> None:
    before, after = SLIPS[case]
    world = World(replace(PRUNING, max_delete=5))
    await world.push(before)
    await world.settle()
    await world.push(after)
    await world.run(60.0)
    assert not world.events("vm-removing")
    volumes = {p: w for p, w in world.hypervisor.disks.items() if "/volumes/" in p}
    assert len(volumes) == 1, "no second volume, and so no empty one"
    (written,) = volumes.values()
    assert written[0] == 1
    heir = "twin" if case.startswith("two") else "shop"
    assert "metadata.movedFrom" in world.why(heir)
    assert heir not in world.hypervisor.running()


async def test_the_right_name_ends_the_wait_for_a_wrong_one() -> None:
    world = World(replace(PRUNING, max_delete=5))
    await world.push(state(web(), vm("other")))
    await world.settle()
    await world.push(state(shop(old="wbe"), vm("other")))
    await world.run(60.0)
    assert set(world.hypervisor.running()) == {"web", "other"}
    assert "the repository lacks web" in world.why("shop")
    assert "may mean this one" in world.why("web")
    await world.push(state(shop(), vm("other")))
    await world.settle()
    assert set(world.hypervisor.running()) == {"shop", "other"}
    assert world.hypervisor.disks[NEW_DISK][0] == 1


async def test_without_the_field_the_vm_is_new_and_the_other_is_removed() -> None:
    world = World(replace(PRUNING, max_delete=5))
    await world.push(state(web(), vm("other")))
    await world.settle()
    await world.push(state(shop(old="wbe"), vm("other")))
    await world.run(60.0)
    await world.push(state(shop(old=""), vm("other")))
    await world.settle()
    assert world.hypervisor.running() == {"shop": 1, "other": 1}
    assert world.events("vm-removed")


async def test_who_is_removed_already_is_not_replaced_by_an_empty_one() -> None:
    world = World(replace(PRUNING, max_delete=5))
    await world.push(state(web(), vm("other")))
    await world.settle()
    await world.push(state(vm("other")))
    await world.settle()
    await world.push(state(shop(), vm("other")))
    await world.run(60.0)
    assert set(world.hypervisor.running()) == {"other"}
    assert "this host knows no VM web" in world.why("shop")
