"""A person who waits is told as soon as it is true."""

import asyncio
from contextlib import suppress
from dataclasses import replace

from reconciler.engine.loop import Engine
from reconciler.model.names import Digest
from tests.world import World, state, vm


async def test_reconcile_answers_when_the_fleet_is_settled_and_not_at_the_next_look() -> None:
    world = World()
    spec = vm("web", min_healthy=0.0)
    spec = replace(spec, health=replace(spec.health, checks=()))
    world.source.push(state(replace(spec, digest=Digest(spec.compute_digest()))))
    engine = Engine(world.ports, world.policy)
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
