"""Rows 3, 4, 55 and 56 of the fault matrix: the controller is ended, stands still, or lacks what it lives on."""

from __future__ import annotations

import asyncio
import errno
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import pytest

from reconciler.engine import loop
from reconciler.engine.loop import Engine
from reconciler.engine.observe import IMAGES_LAST
from reconciler.model.desired import ANY, DesiredState, Fetched, Lineage
from reconciler.model.machine import HostPort, Launch, Machine
from reconciler.model.observed import HostFacts
from reconciler.model.record import Generation
from tests.eventually import eventually
from tests.world import World, state, vm


def plain(content: str) -> DesiredState:
    """Without checks and soak, so that nothing waits for a clock that stands still."""
    return state(vm("web", content, min_healthy=0.0, checked=False))


@asynccontextmanager
async def running(world: World) -> AsyncIterator[Engine]:
    """The real engine on this world, ended as SIGTERM ends it."""
    engine = Engine(world.adapters, world.policy)
    world.hypervisor.wake = engine.wake
    task = asyncio.create_task(engine.run())
    try:
        yield engine
    finally:
        task.cancel()
        async with asyncio.timeout(5):
            with suppress(asyncio.CancelledError):
                await task


@pytest.mark.shows(row=3)
async def test_row_03_an_orderly_end_in_mid_rollout_comes_at_once_and_touches_no_guest() -> None:
    world = World()
    world.source.push(plain("v1"))
    async with running(world) as engine:
        assert (await engine.reconcile(wait=True, timeout=20)).result == "converged"
        world.hypervisor.living("web").ignores_power_button = True
        world.source.push(plain("v2"))
        await engine.reconcile(wait=False, timeout=1)
        await eventually(lambda: "power-button" in world.faults.calls)
    assert world.hypervisor.running() == {"web": 1}, "its stop had begun, and is not forced"
    assert await world.ledger.intents_open(), "what was under way is told to the next daemon"
    world.hypervisor.living("web").ignores_power_button = False
    async with running(world) as engine:
        assert (await engine.reconcile(wait=True, timeout=20)).result == "converged"
    assert world.hypervisor.running() == {"web": 2}
    assert not await world.ledger.intents_open()


async def on_trial(world: World, content: str) -> None:
    await world.push(state(vm("web", "v1")))
    await world.settle()
    await world.push(state(vm("web", content)))
    while world.hypervisor.running() != {"web": 2}:
        await world.step()
        world.clock.advance(0.1)


@pytest.mark.shows(comparison=13, fault=3, row=4)
@pytest.mark.parametrize("asked", [0, 1], ids=["not-asked-yet", "asked-before"])
@pytest.mark.parametrize("restarted", [False, True], ids=["continued", "by-the-watchdog"])
async def test_row_04_a_controller_that_stood_still_for_long_looks_again_before_it_condemns(
    *, restarted: bool, asked: int
) -> None:
    world = World()
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 and asked else "good"
    await on_trial(world, "v2")
    for _ in range(asked):
        await world.step()
    for guest in world.hypervisor.guests.values():
        guest.fate = "good"  # it came up while nobody looked
    if not asked:
        world.hypervisor.forget_answers()
    world.clock.advance(600.0)
    if restarted:
        await world.restart()
    await world.settle()
    assert world.hypervisor.running() == {"web": 2}
    assert world.generation("web", 2).verdict == "committed"


@pytest.mark.shows(fault=4, row=4)
@pytest.mark.parametrize("restarted", [False, True], ids=["continued", "by-the-watchdog"])
async def test_row_04_a_way_back_that_nobody_walked_for_long_is_still_walked(
    *, restarted: bool
) -> None:
    world = World()
    world.hypervisor.behaviour = lambda m: "exits" if m.generation == 2 else "good"
    await world.push(state(vm("web", "v1")))
    await world.settle()
    await world.push(state(vm("web", "v2")))
    while world.record("web").rollback is None:
        await world.step()
        world.clock.advance(0.1)
    world.clock.advance(600.0)
    if restarted:
        await world.restart()
    await world.settle()
    assert world.hypervisor.running() == {"web": 1}
    assert world.record("web").quarantine is None


def raising_once(error: BaseException) -> Iterator[BaseException | None]:
    yield error
    yield from itertools.repeat(None)


@pytest.mark.shows(row=55)
async def test_row_55_a_part_that_ends_by_a_fault_of_ours_is_counted_and_goes_on() -> None:
    world = World()
    world.source.push(plain("v1"))
    errors = {"facts": raising_once(RuntimeError("a bug")), "fetch": raising_once(KeyError("x"))}
    facts, fetch = world.host.facts, world.source.fetch

    async def failing_facts(wanted: frozenset[HostPort] = frozenset()) -> HostFacts:
        if (error := next(errors["facts"])) is not None:
            raise error
        return await facts(wanted)

    async def failing_fetch(lineage: Lineage = ANY) -> Fetched:
        if (error := next(errors["fetch"])) is not None:
            raise error
        return await fetch(lineage)

    world.host.facts, world.source.fetch = failing_facts, failing_fetch  # type: ignore[method-assign]
    async with running(world) as engine:
        await eventually(lambda: world.meter.counts["panic"] == 2)
        assert (await engine.reconcile(wait=True, timeout=20)).result == "converged"
        assert engine.live()


@pytest.mark.shows(row=47)
async def test_row_47_an_image_that_vanished_is_noticed_by_a_daemon_that_nothing_wakes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert loop.LONGEST_SLEEP + IMAGES_LAST <= 40, "as docs/operations/rollouts.md promises"
    monkeypatch.setattr(loop, "LONGEST_SLEEP", 0.05)
    world = World()
    world.source.push(plain("v1"))
    async with running(world) as engine:
        assert (await engine.reconcile(wait=True, timeout=20)).result == "converged"
        key = vm("web", "v1").layers[0].key
        world.images.lose(key)
        world.clock.advance(IMAGES_LAST + 0.1)
        await eventually(lambda: world.events("image-lost") and key in world.images.on_disk())
        assert world.hypervisor.starts == {"web": 1}


@pytest.mark.shows(row=55)
async def test_row_55_a_worker_that_ends_by_a_fault_of_ours_is_an_outcome_and_tried_again() -> None:
    world = World()
    errors, create = raising_once(RuntimeError("a bug")), world.hypervisor.create

    async def failing(
        machine: Machine, launch: Launch, generation: Generation, *, current: bool = False
    ) -> None:
        if (error := next(errors)) is not None:
            raise error
        await create(machine, launch, generation, current=current)

    world.hypervisor.create = failing  # type: ignore[method-assign]
    await world.push(state(vm("web")))
    await world.settle()
    assert world.hypervisor.running() == {"web": 1}
    assert "a bug" in world.events("create-failed")[0]


@pytest.mark.shows(row=55)
async def test_row_55_a_daemon_whose_loop_ended_does_not_live_on_by_half() -> None:
    world = World()
    world.source.push(plain("v1"))
    engine = Engine(world.adapters, world.policy)
    task = asyncio.create_task(engine.run())
    await eventually(engine.ready)
    world.source.next_delay = lambda failures: 1 / 0 * failures  # type: ignore[method-assign]
    engine.look()
    with pytest.raises(ExceptionGroup):
        async with asyncio.timeout(5):
            await task
    assert world.ledger._subscribers == []


def out_of_files(call: str) -> Exception:
    return OSError(errno.EMFILE, f"Too many open files: {call}")


@pytest.mark.shows(row=56)
@pytest.mark.parametrize("call", ["start", "create", "build", "volumes", "power-button"])
async def test_row_56_a_host_without_files_or_memory_fails_the_operation_and_nothing_else(
    call: str,
) -> None:
    world = World()
    await world.push(state(vm("web"), vm("other")))
    await world.settle()
    record = world.record("other")
    world.faults.error = out_of_files  # type: ignore[method-assign]
    world.faults.chooser = lambda _n, named: "error" if named == call else None
    await world.push(state(vm("web", "v2"), vm("other")))
    for _ in range(40):
        await world.step()
        world.clock.advance(0.5)
    assert [event for event in world.ledger.history if "Too many open files" in event.message]
    assert world.record("other") == record
    assert world.hypervisor.starts["other"] == 1
    assert world.record("web").blocked == (), "the host is short of something, not the guest bad"
    world.faults.chooser = lambda _n, _call: None
    await world.settle()
    assert world.hypervisor.running() == {"web": 2, "other": 1}
    assert world.record("web").quarantine is None
