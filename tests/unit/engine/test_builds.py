"""What people see of builds that run: how far each is and for whom, at no cost of the record."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from reconciler.engine.loop import Engine
from reconciler.model.build_progress import BuildStatus, progress_text
from reconciler.model.names import VMName
from tests.eventually import eventually
from tests.unit.engine.test_reconcile_wait import running
from tests.world import World, state, vm

MIB = 1 << 20
NAMES = ("a", "b", "c", "d", "e")


def world_that_builds(*names: str) -> tuple[World, str]:
    """VMs of which all have one more layer, whose build does not end."""
    shared = vm("shared").layers[0]
    world = World()
    world.images.slow = lambda key: 1e9 if key == shared.key else 0.0
    specs = (replace(vm(name), layers=(*vm(name).layers, shared)) for name in names)
    world.source.push(state(*specs))
    return world, shared.key


def only(engine: Engine) -> BuildStatus | None:
    found = engine.status().builds
    return found[0] if len(found) == 1 else None


async def test_a_build_shows_its_bytes_and_the_vms_that_it_is_for() -> None:
    world, key = world_that_builds(*NAMES)
    far = [(0, 0)]
    world.images.far = lambda _key: far[0]
    async with running(world) as engine:
        await eventually(lambda: (one := only(engine)) is not None and one.key == key)
        found = only(engine)
        assert found is not None
        assert (found.vms, found.more) == (("a", "b", "c"), 2)
        assert progress_text(found) == "packing"
        far[0] = (34 * MIB, 0)
        assert [progress_text(one) for one in engine.status().builds] == ["packing, 34 MiB so far"]
        far[0] = (34 * MIB, 120 * MIB)
        assert [progress_text(one) for one in engine.status().builds] == [
            "packing, 34 MiB of 120 MiB"
        ]
        assert [one.key for one in engine.builds(VMName("e"))] == [key]
        assert engine.builds(VMName("nobody")) == ()


async def test_progress_writes_nothing_makes_no_event_and_explains_no_vm_again() -> None:
    world, _ = world_that_builds("a")
    far = [0]
    world.images.far = lambda _key: (far[0], 0)
    engine = Engine(world.adapters, world.policy)
    task = asyncio.create_task(engine.run())
    try:
        await eventually(lambda: only(engine) is not None)
        # Time stands still: whatever passes there were to run have run.
        for _ in range(200):
            await asyncio.sleep(0)
        writes, events, vms = world.ledger.writes, len(world.ledger.history), engine.status().vms
        for _ in range(1000):
            far[0] += MIB
            found = only(engine)
            assert found is not None
            assert found.done_bytes == far[0]
            assert engine.status() is engine.status()
        assert (world.ledger.writes, len(world.ledger.history)) == (writes, events)
        assert engine.status().vms is vms
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_when_no_vm_needs_it_any_more_the_build_ends_and_is_shown_no_more() -> None:
    world, key = world_that_builds("a")
    async with running(world) as engine:
        await eventually(lambda: only(engine) is not None)
        world.source.push(state(vm("a", "v2")))
        engine.look()
        await eventually(lambda: engine.status().builds == ())
        await eventually(lambda: world.hypervisor.running() == {"a": 1})
        assert world.images.cancelled == [key]


@pytest.mark.parametrize(
    ("doing", "done", "total", "words"),
    [
        ("", 0, 0, "beginning"),
        ("building with Nix", 0, 0, "building with Nix"),
        ("fetching", 0, 5 * MIB, "fetching, 0 B of 5.0 MiB"),
        ("fetching", 2 * MIB, 0, "fetching, 2.0 MiB so far"),
    ],
)
def test_what_is_unknown_is_not_made_up(doing: str, done: int, total: int, words: str) -> None:
    assert progress_text(BuildStatus("0" * 64, "oci app", doing, done, total, 0.0)) == words
