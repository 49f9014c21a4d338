"""Generations that were never good, and whose checks are changed: the newer commit is heard at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.model.change import PutVM
from reconciler.model.desired import DesiredState, GroupSpec
from reconciler.model.names import Digest, GroupName, Revision, VMName
from tests.fakes.prober import WRONG
from tests.world import World, changed, state, vm

pytestmark = pytest.mark.shows(fault=62)

NAMES = ("a", "b", "c")
CANARY = GroupSpec(GroupName("g"), canary=(VMName("b"),))


def one(content: str, path: str, mode: str = "auto", **health: object) -> DesiredState:
    return state(changed(vm("web", content, min_healthy=4.0, path=path, mode=mode), health=health))


def fleet(content: str, path: str) -> DesiredState:
    return state(*(vm(n, content, group="g", path=path) for n in NAMES), groups=(CANARY,))


def path_of(world: World, name: str) -> str:
    return str(getattr(world.last_good(name).spec.health.checks[0], "path", ""))


async def test_a_generation_on_trial_that_does_not_pass_takes_mended_checks_with_its_whole_time() -> (
    None
):
    world = await World.settled(one("v1", "/healthz"))
    await world.push(one("v2", WRONG))
    await world.run(25)
    await world.push(one("v2", "/other"))
    await world.settle()
    assert (world.last_good("web").number, path_of(world, "web")) == (2, "/other")
    assert world.hypervisor.starts["web"] == 2, "no restart, and no way back"


@pytest.mark.shows(fault=59)
async def test_what_it_answered_to_the_former_checks_does_not_count() -> None:
    """It passed once, failed three times, and would be condemned before it was asked anew."""
    world = await World.settled(one("v1", "/healthz"))
    await world.push(one("v2", "/fickle", min_healthy_time=20.0))
    await world.run(4)
    world.hypervisor.lost_paths.add("/fickle")
    await world.step()
    world.hypervisor.probe()
    world.hypervisor.probe()
    await world.push(one("v2", "/other", min_healthy_time=20.0))
    await world.settle()
    assert (world.last_good("web").number, path_of(world, "web")) == (2, "/other")


async def test_a_generation_on_trial_that_passes_is_committed_before_changed_checks_are_tried() -> (
    None
):
    world = await World.settled(one("v1", "/healthz"))
    await world.push(one("v2", "/healthz", min_healthy_time=10.0))
    await world.run(8)
    assert world.last_good("web").number == 1
    await world.push(one("v2", WRONG, min_healthy_time=10.0))
    await world.settle()
    assert (world.last_good("web").number, path_of(world, "web")) == (2, "/healthz")
    assert world.record("web").blocked_checks
    assert world.hypervisor.starts["web"] == 2, "a healthy guest is not stopped for the typo"


async def test_mended_checks_lift_the_block_and_the_hold_that_came_of_wrong_ones() -> None:
    world = await World.settled(fleet("v1", "/healthz"))
    await world.push(fleet("v2", WRONG))
    await world.settle()
    assert world.hold("g") is not None
    assert world.hypervisor.running() == {"a": 1, "b": 1, "c": 1}
    await world.push(fleet("v2", "/other"))
    await world.settle()
    assert {n: path_of(world, n) for n in NAMES} == dict.fromkeys(NAMES, "/other")
    assert world.hold("g") is None
    assert world.hypervisor.running() == {"a": 2, "b": 3, "c": 2}


async def test_the_same_wrong_checks_are_not_tried_again_by_itself() -> None:
    world = await World.settled(one("v1", "/healthz"))
    await world.push(one("v2", WRONG))
    await world.settle()
    await world.push(one("v1", "/healthz"))
    await world.settle()
    starts = world.hypervisor.starts["web"]
    await world.push(one("v2", WRONG))
    await world.settle()
    assert world.hypervisor.starts["web"] == starts


@pytest.mark.parametrize("fate", ["exits", "panics", "reports"])
async def test_what_ended_by_itself_stays_blocked_whatever_its_checks(fate: str) -> None:
    world = await World.settled(fleet("v1", "/healthz"))
    world.hypervisor.behaviour = lambda m: fate if m.generation > 1 else "good"
    await world.push(fleet("v2", "/healthz"))
    await world.settle()
    starts = dict(world.hypervisor.starts)
    await world.push(fleet("v2", "/other"))
    await world.settle()
    assert dict(world.hypervisor.starts) == starts
    assert world.hold("g") is not None


async def test_mended_checks_end_a_quarantine_that_waited_for_a_person() -> None:
    world = await World.settled(one("v1", "/healthz", mode="manual"))
    await world.push(one("v2", WRONG, mode="manual"))
    await world.settle()
    assert world.record("web").quarantine is not None
    await world.push(one("v2", "/other", mode="manual"))
    await world.settle()
    assert world.record("web").quarantine is None
    assert (path_of(world, "web"), world.last_good("web").digest) == (
        "/other", one("v2", "/other").vms[VMName("web")].digest,
    )  # fmt: skip


async def test_a_first_generation_whose_checks_were_wrong_serves_once_they_are_mended() -> None:
    world = await World.settled(one("v1", WRONG))
    assert not world.hypervisor.running()
    await world.push(one("v1", "/healthz"))
    await world.settle()
    assert world.last_good("web").number == 2


async def test_a_block_of_an_older_ledger_is_lifted_by_mended_checks_too() -> None:
    """It does not say by which checks it was judged; its generation does."""
    world = await World.settled(one("v1", "/healthz"))
    await world.push(one("v2", WRONG))
    await world.settle()
    record = world.record("web")
    old = tuple(replace(block, key=Digest("")) for block in record.blocked)
    await world.ledger.write([PutVM(replace(record, blocked=old))])
    await world.run(10)
    assert world.hypervisor.running()[VMName("web")] == 1
    await world.push(one("v2", "/other"))
    await world.settle()
    assert path_of(world, "web") == "/other"


@pytest.mark.shows(fault=59)
async def test_a_candidate_that_takes_over_when_the_daemon_dies_keeps_the_checks_that_it_passed() -> (
    None
):
    def over(content: str, path: str) -> DesiredState:
        return state(vm("web", content, handover=True, path=path))

    world = await World.settled(over("v1", "/healthz"))
    await world.push(over("v2", "/healthz"))
    await world.run(2)
    candidate = world.record("web").candidate
    while world.record("web").pending_transfer is None:
        await world.step()
        world.clock.advance(0.5)
    assert candidate is not None
    await world.restart()
    await world.push(over("v2", WRONG))
    await world.settle()
    assert (world.last_good("web").number, path_of(world, "web")) == (2, "/healthz")
    assert world.record("web").blocked_checks
    assert world.hypervisor.starts["web"] == 2


@pytest.mark.shows(fault=59)
async def test_a_guest_on_trial_that_a_new_daemon_has_not_asked_yet_may_have_passed() -> None:
    world = await World.settled(one("v1", "/healthz"))
    await world.push(one("v2", "/healthz", min_healthy_time=10.0))
    await world.run(8)
    await world.restart()
    await world.push(one("v2", WRONG, min_healthy_time=10.0))
    await world.settle()
    assert (world.last_good("web").number, path_of(world, "web")) == (2, "/healthz")
    assert world.hypervisor.starts["web"] == 2


@pytest.mark.shows(fault=97)
async def test_a_verdict_by_changed_checks_is_of_who_changed_them_whatever_came_with_it() -> None:
    world = await World.settled(one("v1", "/healthz"))
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    await world.push(one("v2", WRONG))
    await world.run(10)
    mended = one("v2", "/other")
    await world.push(mended)
    await world.push(replace(mended, revision=Revision("d" * 40)))
    await world.settle()
    failed = world.generation("web", 2)
    assert (failed.verdict, failed.revision) == ("condemned", mended.revision)
