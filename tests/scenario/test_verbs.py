"""What people ask holds over a restart of the daemon, and is told as an event."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.errors import RequestRefused
from reconciler.model.desired import DesiredState, GroupSpec
from reconciler.model.names import GenerationNumber, GroupName, VMName
from reconciler.model.policy import Policy
from reconciler.model.request import (
    Abort,
    Adopt,
    Confirm,
    Promote,
    Remove,
    Request,
    RestartVM,
    Resume,
    Retry,
    RollbackTo,
    Suspend,
)
from tests.world import World, state, vm

pytestmark = pytest.mark.shows(promise=12)

HOST = Policy("/state", prune=True, max_delete=1, memory_reserve_mib=0, disk_reserve_mib=0)


def fleet(content: str, *names: str, approval: bool = False) -> DesiredState:
    group = GroupSpec(GroupName("g"), approval="manual" if approval else "auto")
    vms = (vm(name, content, group="g", min_healthy=1.0) for name in names or ("a", "b"))
    return state(*vms, groups=(group,))


async def settled(desired: DesiredState) -> World:
    return await World.settled(desired, HOST)


async def asked(world: World, request: Request) -> None:
    """Ask, and let the daemon die before it made anything of it."""
    await world.ask(request)
    await world.restart()


async def test_suspend_and_resume_hold_over_a_restart() -> None:
    for subject in ("a", "g", None):
        world = await settled(fleet("v1"))
        await asked(world, Suspend(subject, "the night shift sleeps"))
        await world.push(fleet("v2"))
        await world.run(60.0)
        assert world.hypervisor.running()[VMName("a")] == 1
        assert "the night shift sleeps" in " ".join(world.status().waits)
        await asked(world, Resume(subject))
        await world.settle()
        assert world.hypervisor.running() == {"a": 2, "b": 2}
        assert world.events("suspended")
        assert world.events("resumed")


async def test_a_suspension_with_an_end_ends_after_a_restart_too() -> None:
    world = await settled(fleet("v1"))
    await asked(world, Suspend("g", seconds=120.0))
    await world.push(fleet("v2"))
    await world.run(60.0)
    assert world.hypervisor.running() == {"a": 1, "b": 1}
    await world.run(120.0)
    assert world.hypervisor.running() == {"a": 2, "b": 2}


async def test_rollback_holds_over_a_restart() -> None:
    world = await settled(fleet("v1"))
    await world.push(fleet("v2"))
    await world.settle()
    await asked(world, RollbackTo("a", GenerationNumber(1)))
    await world.settle()
    await world.restart()
    await world.run(60.0)
    assert world.hypervisor.running() == {"a": 1, "b": 2}
    assert world.events("pinned")


async def test_retry_holds_over_a_restart() -> None:
    world = await settled(fleet("v1"))
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    await world.push(fleet("v2"))
    await world.settle()
    world.hypervisor.behaviour = lambda _m: "good"
    await asked(world, Retry("a"))
    await world.settle()
    assert set(world.hypervisor.running()) == {"a", "b"}
    assert {world.last_good(name).spec.layers for name in "ab"} == {
        vm(name, "v2").layers for name in "ab"
    }
    assert world.events("retried")


async def test_restart_holds_over_a_restart_of_the_daemon() -> None:
    world = await settled(fleet("v1"))
    await asked(world, RestartVM("a"))
    await world.settle()
    assert world.hypervisor.starts == {"a": 2, "b": 1}
    assert world.events("restart-requested")


async def test_promote_holds_over_a_restart() -> None:
    world = await settled(fleet("v1", approval=True))
    await world.push(fleet("v2", approval=True))
    await world.run(20.0)
    assert world.hypervisor.running() == {"a": 1, "b": 1}
    await asked(world, Promote("g"))
    await world.settle()
    assert world.hypervisor.running() == {"a": 2, "b": 2}
    assert world.events("promoted")


async def test_abort_holds_over_a_restart() -> None:
    world = await settled(fleet("v1"))
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    await world.push(fleet("v2"))
    await world.run(5.0)
    await asked(world, Abort("g", "not today"))
    await world.settle()
    await world.run(60.0)
    assert world.hypervisor.running() == {"a": 1, "b": 1}
    assert "not today" in world.why("b")
    assert world.events("aborted")


async def test_confirm_holds_over_a_restart() -> None:
    world = await settled(fleet("v1", "a", "b", "c"))
    smaller = fleet("v1", "a")
    await world.push(smaller)
    await world.settle()
    assert world.hypervisor.running() == {"a": 1, "b": 1, "c": 1}
    await asked(world, Confirm(smaller.revision))
    await world.settle()
    assert world.hypervisor.running() == {"a": 1}
    assert world.events("removals-confirmed")


async def test_adopt_holds_over_a_restart() -> None:
    world = await settled(fleet("v1"))
    lost = World(HOST)
    lost.clock, lost.hypervisor, lost.images = world.clock, world.hypervisor, world.images
    lost._boot()
    await lost.push(fleet("v2"))
    await lost.settle()
    assert lost.hypervisor.running() == {"a": 1, "b": 1}, "not what is desired: a person decides"
    for name in "ab":
        await asked(lost, Adopt(name))
    await lost.settle()
    assert {lost.last_good(name).spec.layers for name in "ab"} == {
        vm(name, "v2").layers for name in "ab"
    }
    assert lost.events("adopted")


async def test_what_a_person_asked_without_a_need_is_refused_and_says_so() -> None:
    world = await settled(fleet("v1"))
    history = len(world.ledger.history)
    with pytest.raises(RequestRefused, match="nothing of a is condemned, held or failed"):
        await world.ask(Retry("a"))
    with pytest.raises(RequestRefused, match="group g needs no approval"):
        await world.ask(Promote("g"))
    assert len(world.ledger.history) == history, "no event tells of what was not done"


async def test_the_event_of_a_suspension_has_its_reason() -> None:
    world = await settled(fleet("v1"))
    await world.ask(Suspend("a", "the disk is changed"))
    assert world.events("suspended") == ["a is suspended: the disk is changed"]


async def test_a_name_of_a_vm_and_a_group_is_suspended_only_once_it_is_said_which() -> None:
    world = await World.settled(state(vm("web"), vm("a", group="web")))
    for request in (Suspend("web"), Resume("web")):
        with pytest.raises(RequestRefused, match="web is both a VM and a group") as refused:
            await world.ask(request)
        assert refused.value.hint == "write vm/web or group/web"
    assert await world.ask(Suspend("group/web")) == "group web is suspended"
    await world.push(state(vm("web", "v2"), vm("a", "v2", group="web")))
    await world.settle()
    assert world.hypervisor.running() == {"web": 2, "a": 1}
    assert await world.ask(Suspend("vm/web")) == "web is suspended"
    await world.ask(Resume("group/web"))
    await world.settle()
    assert world.hypervisor.running() == {"web": 2, "a": 2}
    with pytest.raises(RequestRefused, match="no group 'a' on this host"):
        await world.ask(Suspend("group/a"))
    with pytest.raises(RequestRefused, match="no VM and no group 'wep'") as refused:
        await world.ask(Suspend("wep"))
    assert refused.value.hint == "did you mean web?"


async def test_a_wrong_name_is_told_with_the_nearest_and_what_it_is() -> None:
    world = await settled(fleet("v1"))
    await world.push(fleet("v1", "a", "b", "young"))
    for request, hint in (
        (Retry(VMName("g")), "that is a group; its members: a, b, young"),
        (RestartVM(VMName("youn")), "did you mean young?"),
        (Suspend("yung", ""), "did you mean young?"),
        (Suspend("nothing-like-it", ""), "see `reconciler status` for all names"),
    ):
        with pytest.raises(RequestRefused, match="there is no VM") as refused:
            await world.ask(request)
        assert refused.value.hint.startswith(hint)
    for asked_for in (Retry(VMName("young")), Suspend("young", "")):
        with pytest.raises(RequestRefused, match="young is declared but was never started"):
            await world.ask(asked_for)


KEEPING = Policy("/state", memory_reserve_mib=0, disk_reserve_mib=0)


async def left_behind() -> World:
    """A host that keeps what leaves the repository, as `web` did."""
    world = await World.settled(state(vm("web"), vm("db")), KEEPING)
    await world.push(state(vm("db")))
    await world.settle()
    assert world.hypervisor.running() == {"db": 1, "web": 1}
    return world


@pytest.mark.shows(fault=126)
async def test_one_vm_that_left_the_repository_is_removed_at_a_persons_word() -> None:
    world = await left_behind()
    assert [wait.kind for v in world.status().vms if v.name == "web" for wait in v.waits] == [
        "kept"
    ]
    await world.ask(Remove("web"))
    await world.settle()
    assert world.hypervisor.running() == {"db": 1}
    assert set(world.durable.record().vms) == {"db"}
    assert world.events("vm-removed") == ["web is gone; its volumes are kept"]


@pytest.mark.shows(fault=126)
async def test_a_removal_that_was_asked_for_is_carried_through_by_the_next_daemon() -> None:
    world = await left_behind()
    await world.ask(Remove("web"))
    await world.restart()
    await world.settle()
    assert world.hypervisor.running() == {"db": 1}


@pytest.mark.shows(fault=126)
async def test_a_vm_that_comes_back_while_it_is_removed_is_started_again() -> None:
    world = await left_behind()
    await world.ask(Remove("web"))
    await world.step()
    await world.push(state(vm("web"), vm("db"), revision="b" * 40))
    await world.settle()
    assert set(world.hypervisor.running()) == {"db", "web"}


async def test_a_suspended_vm_is_removed_too_when_a_person_says_so() -> None:
    world = await left_behind()
    await world.ask(Suspend("web"))
    await world.ask(Remove("web"))
    await world.settle()
    assert world.hypervisor.running() == {"db": 1}


@pytest.mark.shows(fault=126)
async def test_what_is_declared_or_taken_over_is_not_removed() -> None:
    world = await left_behind()
    with pytest.raises(RequestRefused, match="db is declared by revision") as refused:
        await world.ask(Remove("db"))
    assert "delete its manifest first" in refused.value.hint
    with pytest.raises(RequestRefused, match="there is no VM 'wbe'"):
        await world.ask(Remove("wbe"))
    await world.ask(Remove("web"))
    with pytest.raises(RequestRefused, match="is being removed already"):
        await world.ask(Remove("web"))
    other = await World.settled(state(vm("web"), vm("old")), KEEPING)
    await other.push(state(vm("web", moved_from="old")))
    await other.settle()
    with pytest.raises(RequestRefused, match="web names old as movedFrom"):
        await other.ask(Remove("old"))


@pytest.mark.shows(fault=125)
async def test_confirming_removals_that_the_host_never_makes_is_refused_with_what_does() -> None:
    world = await left_behind()
    desired = world.durable.record().source.revision
    assert desired is not None
    with pytest.raises(RequestRefused, match=r"source\.prune is off") as refused:
        await world.ask(Confirm(desired))
    assert "reconciler remove VM" in refused.value.hint


@pytest.mark.shows(fault=137)
@pytest.mark.parametrize("subject", [None, "g", "web"])
async def test_what_is_suspended_is_not_removed_by_a_push(subject: str | None) -> None:
    group = GroupSpec(GroupName("g"))
    pruning = replace(KEEPING, prune=True)
    web, db = vm("web", group="g"), vm("db", group="g")
    world = await World.settled(state(web, db, groups=(group,)), pruning)
    await world.ask(Suspend(subject))
    await world.push(state(db, groups=(group,)))
    await world.run(60)
    assert set(world.hypervisor.running()) == {"db", "web"}
    (waits,) = (v.waits for v in world.status().vms if v.name == "web")
    assert [wait.kind for wait in waits] == ["suspended"]
    await world.ask(Resume(subject))
    await world.settle()
    assert set(world.hypervisor.running()) == {"db"}


async def test_a_removal_that_a_person_asked_for_waits_while_the_host_is_suspended() -> None:
    world = await left_behind()
    await world.ask(Suspend(None))
    await world.ask(Remove("web"))
    await world.run(60)
    assert set(world.hypervisor.running()) == {"db", "web"}
    assert "this host is suspended" in world.why("web")
    await world.ask(Resume(None))
    await world.settle()
    assert set(world.hypervisor.running()) == {"db"}
