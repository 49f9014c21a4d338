"""A person who waits is told as soon as it is true."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest

from reconciler.engine.loop import Engine
from reconciler.errors import RequestRefused
from reconciler.model.names import Digest
from tests.world import World, state, vm


async def test_reconcile_answers_when_the_fleet_is_settled_and_not_at_the_next_look() -> None:
    world = World()
    spec = vm("web", min_healthy=0.0)
    spec = replace(spec, health=replace(spec.health, checks=()))
    world.source.push(state(replace(spec, digest=Digest(spec.compute_digest()))))
    engine = Engine(world.adapters, world.policy)
    running = asyncio.create_task(engine.run())
    try:
        async with asyncio.timeout(15):  # well before a pass that nothing asks for
            report = await engine.reconcile(wait=True, timeout=60)
        assert report.result == "converged"
        assert world.hypervisor.running() == {"web": 1}
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


@asynccontextmanager
async def running(world: World) -> AsyncIterator[Engine]:
    engine = Engine(world.adapters, world.policy)
    task = asyncio.create_task(engine.run())
    probing = asyncio.create_task(probe(world, engine))
    try:
        yield engine
    finally:
        for each in (task, probing):
            each.cancel()
            with suppress(asyncio.CancelledError):
                await each


async def probe(world: World, engine: Engine) -> None:
    """Time goes on, and guests answer, which wakes the engine."""
    while True:
        world.clock.advance(0.5)
        world.hypervisor.probe()
        engine.wake()
        await asyncio.sleep(0.001)


@pytest.mark.shows(fault=81)
async def test_a_later_revision_is_not_judged_by_what_an_earlier_one_broke() -> None:
    world = World()
    bad = vm("web", "v2").layers[-1].key
    world.hypervisor.behaviour = lambda m: "bad" if bad in m.layers[-1].path else "good"
    world.source.push(state(vm("web"), vm("db")))
    async with running(world) as engine, asyncio.timeout(30):
        assert (await engine.reconcile(wait=True, timeout=60)).result == "converged"
        broken = state(vm("web", "v2"), vm("db"))
        world.source.push(broken)
        assert (await engine.reconcile(wait=True, timeout=600)).result == "rolled-back"
        world.source.push(state(vm("web", "v2"), vm("db", "v2")))
        report = await engine.reconcile(wait=True, timeout=600)
        assert (report.result, report.changed, report.healthy) == ("converged", 1, 1)
        assert broken.revision[:8] in report.beside[0]
        assert engine.status().revision.result == "converged"
        named = await engine.reconcile(wait=True, timeout=600, subject="web")
        assert (named.result, named.healthy) == ("rolled-back", 0)
        assert [one.result for one in engine.results()] == ["converged", "rolled-back", "converged"]
        with pytest.raises(RequestRefused, match="no VM and no group 'wbe'") as refused:
            await engine.reconcile(wait=True, timeout=1, subject="wbe")
        assert "did you mean web" in refused.value.hint


@pytest.mark.shows(fault=82)
async def test_after_a_restart_a_result_waits_until_the_guests_have_answered() -> None:
    world = await World.settled(state(*(vm(name) for name in "abcd")))
    await world.restart()
    async with running(world) as engine, asyncio.timeout(30):
        report = await engine.reconcile(wait=True, timeout=60)
        assert (report.result, report.healthy) == ("converged", 4)
        assert all(one.healthy for one in engine.status().vms)
