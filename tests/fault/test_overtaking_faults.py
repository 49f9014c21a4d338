"""Row 51 of the fault matrix: a newer commit comes in every state of a rollout."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.model.desired import DesiredState, GroupSpec, UpdateWindow, VMSpec
from reconciler.model.names import GroupName, VMName
from reconciler.model.policy import Policy
from reconciler.model.request import Promote
from tests.world import World, state, vm

PRUNING = Policy("/state", prune=True, memory_reserve_mib=0, disk_reserve_mib=0)


OVERTAKERS: dict[str, tuple[VMSpec, ...]] = {
    "a-fix": (vm("web", "v3"), vm("db")),
    "a-revert": (vm("web", "v1"), vm("db")),
    "another-bad-one": (vm("web", "bad"), vm("db")),
    "its-removal": (vm("db"),),
    "a-new-name": (vm("shop", "v1"), vm("db")),
    "in-place-only": (vm("web", "v2", labels={"tier": "front"}), vm("db")),
}
ENDS = {
    "a-fix": {"web": "v3", "db": "v1"},
    "a-revert": {"web": "v1", "db": "v1"},
    "another-bad-one": {"web": "v1", "db": "v1"},
    "its-removal": {"db": "v1"},
    "a-new-name": {"shop": "v1", "db": "v1"},
    "in-place-only": {"web": "v1", "db": "v1"},
}


@pytest.mark.shows(comparison=2, row=51)
@pytest.mark.parametrize("moment", range(18))
@pytest.mark.parametrize("commit", OVERTAKERS)
async def test_row_51_a_new_commit_in_any_state_of_a_failing_rollout_ends_at_the_newest_good_one(
    commit: str, moment: int
) -> None:
    world = await World.settled(state(vm("web"), vm("db")), PRUNING)
    bad = {f"/state/layers/{vm('web', c).layers[0].key}/image" for c in ("v2", "bad")}
    world.hypervisor.behaviour = lambda m: "bad" if m.layers[-1].path in bad else "good"
    await world.push(state(vm("web", "v2"), vm("db")))
    for passed in range(moment):
        await world.step()
        world.clock.advance(0.0 if passed < 8 else 5.0)
    await world.push(state(*OVERTAKERS[commit]))
    await world.settle()
    contents = {
        name: next(
            c for c in ("v1", "v2", "v3", "bad")
            if world.generation(name, number).spec.layers == vm(name, c).layers
        )
        for name, number in world.hypervisor.running().items()
    }  # fmt: skip
    assert contents == ENDS[commit]
    assert world.hypervisor.starts["db"] == 1


@pytest.mark.shows(comparison=10, row=51)
async def test_row_51_a_revert_in_mid_rollout_takes_back_who_moved_and_touches_nobody_else() -> (
    None
):
    spec = GroupSpec(GroupName("g"), canary=(VMName("a"),), canary_soak=600.0)

    def fleet(content: str) -> DesiredState:
        return state(*(vm(n, content, group="g", min_healthy=1.0) for n in "ab"), groups=(spec,))

    world = await World.settled(fleet("v1"))
    await world.push(fleet("v2"))
    await world.run(30.0)
    assert world.hypervisor.running() == {"a": 2, "b": 1}
    await world.push(fleet("v1"))
    await world.run(30.0)
    assert world.hypervisor.running() == {"a": 3, "b": 1}, "proven anew, with checks and soak"
    assert [world.last_good(n).spec.layers for n in "ab"] == [vm(n).layers for n in "ab"]
    assert world.hypervisor.starts["b"] == 1


@pytest.mark.shows(comparison=10, row=51)
async def test_row_51_a_revert_of_what_is_still_on_trial_goes_back_at_once() -> None:
    world = await World.settled(state(vm("web")))
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    await world.push(state(vm("web", "v2")))
    while world.hypervisor.running() != {"web": 2}:
        await world.step()
    began = world.clock.now().boot
    await world.push(state(vm("web")))
    while world.hypervisor.running() != {"web": 1}:
        await world.step()
        world.clock.advance(0.1)
    assert world.clock.now().boot - began < 1.0, "it does not wait for the trial to fail"
    await world.settle()
    assert world.record("web").blocked == ()


def keys(*specs: VMSpec) -> list[str]:
    return [spec.layers[0].key for spec in specs]


@pytest.mark.shows(comparison=9, row=51)
async def test_row_51_a_build_that_a_newer_commit_does_not_want_is_cancelled_and_nobody_failed() -> (
    None
):
    world = await World.settled(state(vm("web"), vm("db")))
    world.images.slow = lambda key: 900.0 if key in keys(vm("web", "v2")) else 0.0
    await world.push(state(vm("web", "v2"), vm("db")))
    await world.run(10.0)
    await world.push(state(vm("web", "v3"), vm("db")))
    await world.settle(60.0)
    assert world.images.cancelled == keys(vm("web", "v2"))
    assert world.hypervisor.running() == {"web": 2, "db": 1}
    assert world.record("web").blocked == ()
    assert world.durable.record().builds == {}, "no trouble is remembered"
    assert not world.events("build-layer-failed")
    assert len(world.events("build-cancelled")) == 1
    assert set(world.ledger.intents) == set(world.ledger.ends)
    assert "cancelled" in world.ledger.ends.values()


@pytest.mark.shows(row=51)
async def test_row_51_a_build_that_another_vm_wants_too_goes_on() -> None:
    shared = vm("web", "v2")
    other = replace(vm("db", "v2"), layers=shared.layers)
    other = replace(other, digest=other.compute_digest())
    world = await World.settled(state(vm("web"), vm("db")))
    world.images.slow = lambda key: 30.0 if key in keys(shared) else 0.0
    await world.push(state(shared, other))
    await world.run(10.0)
    await world.push(state(vm("web", "v3"), other))
    await world.settle(120.0)
    assert world.images.cancelled == []
    assert world.images.built.count(keys(shared)[0]) == 1
    assert world.hypervisor.running() == {"web": 2, "db": 2}


async def test_row_51_a_cancelled_build_that_is_wanted_again_is_made_again() -> None:
    world = await World.settled(state(vm("web")))
    world.images.slow = lambda key: 30.0 if key in keys(vm("web", "v2")) else 0.0
    await world.push(state(vm("web", "v2")))
    await world.run(5.0)
    await world.push(state(vm("web")))
    await world.run(5.0)
    await world.push(state(vm("web", "v2")))
    await world.settle(120.0)
    assert world.hypervisor.running() == {"web": 2}
    assert world.images.cancelled == keys(vm("web", "v2"))


async def test_row_51_cancelled_builds_give_their_place_to_others_at_once() -> None:
    world = await World.settled(state(vm("web"), vm("db")))
    world.images.slow = lambda key: 900.0 if key in keys(vm("web", "v2"), vm("db", "v2")) else 0.0
    await world.push(state(vm("web", "v2"), vm("db", "v2")))
    await world.run(5.0)
    await world.push(state(vm("web", "v3"), vm("db", "v3")))
    await world.run(15.0)
    assert world.hypervisor.running() == {"web": 2, "db": 2}, "max_builds is 2"


async def test_row_51_without_a_revision_no_build_is_cancelled() -> None:
    world = await World.settled(state(vm("web")))
    world.images.slow = lambda key: 20.0 if key in keys(vm("web", "v2")) else 0.0
    await world.push(state(vm("web", "v2")))
    await world.run(5.0)
    world.reconciler.desired = None
    await world.run(20.0)
    assert world.images.cancelled == []


CLOSED = UpdateWindow("0 0 29 2 *", 60.0)
"""A minute, once in four years."""


def guarded(content: str, *windows: UpdateWindow) -> DesiredState:
    """A group that lets nobody through: a canary that soaks, a person who is asked, a shut window."""
    spec = GroupSpec(
        GroupName("g"),
        canary=(VMName("b"),),
        canary_soak=3600.0,
        approval="manual",
        windows=windows,
    )
    after = {"a": ("c",)}
    members = [vm(n, content, group="g", after=after.get(n, ()), min_healthy=1.0) for n in "abc"]
    return state(*members, groups=(spec,))


async def rolled_out(policy: Policy | None = None) -> World:
    """Everybody committed v1, and then v2."""
    world = await World.settled(guarded("v1"), policy)
    await world.push(guarded("v2"))
    await world.run(30.0)
    await world.ask(Promote("g"))
    world.clock.advance(3600.0)
    await world.run(60.0)
    assert world.hypervisor.running() == {"a": 2, "b": 2, "c": 2}
    return world


@pytest.mark.shows(comparison=10, row=51)
async def test_row_51_a_revert_to_what_was_committed_waits_for_no_canary_no_person_and_no_window() -> (
    None
):
    world = await rolled_out()
    least, order = 3, list[str]()

    def look() -> None:
        nonlocal least
        running = world.hypervisor.running()
        least = min(least, len(running))
        order.extend(n for n, number in running.items() if number == 3 and n not in order)

    world.on_pass = look
    await world.push(guarded("v1", CLOSED))
    await world.run(40.0)
    assert world.hypervisor.running() == {"a": 3, "b": 3, "c": 3}
    assert [world.last_good(n).spec.layers for n in "abc"] == [vm(n).layers for n in "abc"]
    assert least == 2, "maxUnavailable holds"
    assert order.index("c") < order.index("a"), "and so does the order"
    assert any("as generation 1 was" in e for e in world.events("generation-created"))


async def test_row_51_a_revert_that_fails_now_goes_back_and_holds_the_group() -> None:
    world = await rolled_out()
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 3 else "good"
    await world.push(guarded("v1", CLOSED))
    await world.run(120.0)
    assert world.hypervisor.running() == {"a": 2, "b": 2, "c": 2}
    assert world.hold("g") is not None


async def test_row_51_what_is_not_kept_any_more_is_a_change_like_any() -> None:
    policy = Policy("/s", memory_reserve_mib=0, disk_reserve_mib=0, generations_kept=1)
    world = await rolled_out(policy)
    await world.push(guarded("v1", CLOSED))
    await world.run(40.0)
    assert world.hypervisor.running() == {"a": 2, "b": 2, "c": 2}
    assert any("window" in wait.kind for vm in world.status().vms for wait in vm.waits)


async def test_row_51_what_was_condemned_is_no_way_back() -> None:
    world = await World.settled(guarded("v1"))
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    await world.push(guarded("v2"))
    await world.run(120.0)
    await world.push(guarded("v1"))
    await world.run(30.0)
    await world.push(guarded("v2", CLOSED))
    await world.run(60.0)
    assert world.hypervisor.running() == {"a": 1, "b": 1, "c": 1}


async def test_row_51_what_was_overtaken_on_trial_is_no_way_back_either() -> None:
    def only(content: str, *windows: UpdateWindow) -> DesiredState:
        groups = (GroupSpec(GroupName("g"), windows=windows),)
        return state(vm("web", content, group="g", min_healthy=20.0), groups=groups)

    world = await World.settled(only("v1"))
    await world.push(only("v2"))
    while world.hypervisor.running() != {"web": 2}:
        await world.step()
        world.clock.advance(0.1)
    await world.push(only("v1", CLOSED))
    await world.run(30.0)
    await world.push(only("v2", CLOSED))
    await world.run(60.0)
    assert world.hypervisor.running() == {"web": 1}, "it waits for the window"
