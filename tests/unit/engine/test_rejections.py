"""A refused revision is told for as long as the source names it."""

import asyncio
from contextlib import suppress

import pytest

from reconciler.engine.loop import Engine
from reconciler.errors import ManifestErrors, Problem
from tests.world import World, state, vm


async def test_a_bad_commit_that_is_taken_back_is_no_longer_told() -> None:
    world = World()
    world.source.push(state(vm("web", min_healthy=0.0)))
    engine = Engine(world.adapters, world.policy)
    running = asyncio.create_task(engine.run())
    try:
        await engine.reconcile(wait=False, timeout=1)
        bad = Problem("web.yaml", 3, 1, "unknown field")
        world.source.fails = ManifestErrors([bad], revision="b" * 40)
        with pytest.raises(ManifestErrors):
            await engine.reconcile(wait=False, timeout=1)
        assert engine.status().revision.rejected == "b" * 40
        world.source.fails = None
        await engine.reconcile(wait=False, timeout=1)
        assert engine.status().revision.rejected is None
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
