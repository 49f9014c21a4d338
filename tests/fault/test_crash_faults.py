"""Rows 1 and 2 of the fault matrix: the controller is killed, and killed again while it recovers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress

import pytest

from reconciler.errors import LedgerUnwritable
from reconciler.model.desired import DesiredState
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


@pytest.mark.parametrize("at", range(len(CALLS)), ids=lambda n: f"{n}-{CALLS[n]}")
async def test_row_01_a_controller_killed_in_any_state_of_a_vm_reaches_the_same_end(
    at: int,
) -> None:
    for death in DEATHS:
        assert_the_same_end(await life({at: death}))


@pytest.mark.parametrize("at", range(len(CALLS)), ids=lambda n: f"{n}-{CALLS[n]}")
async def test_row_02_a_controller_killed_again_while_it_recovers_reaches_the_same_end(
    at: int,
) -> None:
    for later in (1, 2, 4):
        assert_the_same_end(await life({at: "crash-after", at + later: "crash-before"}))
