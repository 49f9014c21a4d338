"""Rows 1, 2 and 5 of the fault matrix: the controller is killed, also while it recovers, and the host goes down."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress

import pytest

from reconciler.errors import LedgerUnwritable
from reconciler.model.desired import DesiredState, GroupSpec
from reconciler.model.names import GroupName
from tests.fakes import Crash
from tests.fakes.faults import Fault
from tests.world import World, state, vm

DISK = "/state/vms/db/volumes/data.raw"
DEATHS: tuple[Fault, ...] = ("crash-before", "crash-after")


def db(content: str) -> DesiredState:
    return state(vm("db", content, snapshot=True, min_healthy=1.0))


async def life(deaths: Mapping[int, Fault]) -> World:
    """A first boot, then a bad update that goes through every state of a VM and back."""
    world = World()
    world.faults.chooser = lambda number, _call: deaths.get(number)
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    for content in ("v1", "v2"):
        world.source.push(db(content))
        while not await survived(world, db(content)):
            before = world.hypervisor.running()
            world.faults.crashed = False
            with suppress(Crash):
                await world.restart()
            assert world.hypervisor.running() == before, "its death and return touch no guest"
    return world


async def survived(world: World, desired: DesiredState) -> bool:
    """Whether the daemon lived to see this state settled."""
    with suppress(Crash, LedgerUnwritable):
        await world.push(desired)
        await world.settle()
    return not world.faults.crashed


def assert_the_same_end(world: World) -> None:
    assert world.hypervisor.running() == {"db": 1}
    assert world.generation("db", 2).verdict == "condemned"
    assert [b.generation for b in world.record("db").blocked] == [2]
    assert 2 not in world.hypervisor.disks[DISK], "what the bad generation wrote is undone"
    assert max(Counter(world.images.built).values()) == 1, "nothing was built twice"
    assert set(world.ledger.intents) == set(world.ledger.ends)


CALLS = asyncio.run(life({})).faults.calls
"""Every durable write and side effect of the story, in order."""


def test_the_story_goes_through_every_kind_of_call() -> None:
    assert {"write", "build", "create", "start", "power-button", "snapshot", "restore"} <= set(
        CALLS
    )


@pytest.mark.shows(comparison=13, row=1)
@pytest.mark.parametrize("at", range(len(CALLS)), ids=lambda n: f"{n}-{CALLS[n]}")
async def test_row_01_a_controller_killed_in_any_state_of_a_vm_reaches_the_same_end(
    at: int,
) -> None:
    for death in DEATHS:
        assert_the_same_end(await life({at: death}))


@pytest.mark.shows(row=2)
@pytest.mark.parametrize("at", range(len(CALLS)), ids=lambda n: f"{n}-{CALLS[n]}")
async def test_row_02_a_controller_killed_again_while_it_recovers_reaches_the_same_end(
    at: int,
) -> None:
    for later in (1, 2, 4):
        assert_the_same_end(await life({at: "crash-after", at + later: "crash-before"}))


@pytest.mark.shows(fault=6, row=5)
async def test_row_05_after_power_loss_in_mid_rollback_the_last_good_generation_comes_back() -> (
    None
):
    world = World()
    world.hypervisor.behaviour = lambda m: "exits" if m.generation == 2 else "good"
    await world.push(state(vm("web", "v1")))
    await world.settle()
    await world.push(state(vm("web", "v2")))
    while world.record("web").rollback is None:
        await world.step()
        world.clock.advance(0.1)
    world.hypervisor.power_loss()
    world.clock.reboot()
    await world.restart()
    await world.settle()
    assert world.hypervisor.running() == {"web": 1}
    assert world.record("web").quarantine is None
    assert [b.generation for b in world.record("web").blocked] == [2]


@pytest.mark.shows(row=5)
async def test_row_05_after_power_loss_in_mid_rollout_the_last_good_one_starts_first() -> None:
    world = World()
    await world.push(state(vm("web", "v1")))
    await world.settle()
    await world.push(state(vm("web", "v2")))
    while world.hypervisor.running() != {"web": 2}:
        await world.step()
        world.clock.advance(0.1)
    world.hypervisor.power_loss()
    world.clock.reboot()
    await world.restart()
    former = len(world.hypervisor.log)
    await world.settle()
    starts = [number for kind, _, number in world.hypervisor.log[former:] if kind == "start"]
    assert starts == [1, 2]
    assert world.record("web").blocked == (), "the host went down, not the guest"


@pytest.mark.shows(fault=7, row=5)
async def test_row_05_a_reboot_in_mid_rollout_is_no_lack_of_progress() -> None:
    group = GroupSpec(GroupName("g"), progress_deadline=200.0)

    def fleet(content: str) -> DesiredState:
        return state(*(vm(n, content, group="g") for n in ("a", "b")), groups=(group,))

    world = World()
    await world.push(fleet("v1"))
    await world.settle()
    await world.push(fleet("v2"))
    while world.hypervisor.running() != {"a": 2, "b": 1}:
        await world.step()
        world.clock.advance(0.1)
    world.hypervisor.power_loss()
    world.clock.reboot()
    await world.restart()
    await world.settle()
    assert world.hold("g") is None
    assert world.hypervisor.running() == {"a": 2, "b": 2}
