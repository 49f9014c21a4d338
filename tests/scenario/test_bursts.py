"""Pushes in quick succession: no guest is stopped for what is overtaken already."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.model.desired import VMSpec
from tests.world import World, state, vm

pytestmark = pytest.mark.shows(fault=119)


async def quiet(spec: VMSpec) -> World:
    """A host whose first push is a while ago."""
    world = await World.settled(state(spec))
    await world.run(10)
    return world


async def push_quickly(world: World, first: int, last: int, pause: float) -> None:
    for number in range(first, last + 1):
        await world.push(state(vm("web", f"v{number}")))
        await world.run(pause)


async def test_ten_quick_pushes_stop_the_serving_guest_once_and_the_trial_at_most_once() -> None:
    world = await quiet(vm("web", "v0"))
    await push_quickly(world, 1, 10, 0.5)
    await world.settle()
    assert world.hypervisor.stops["web"] <= 2
    generations = world.record("web").generations
    assert [g.verdict for g in generations if g.verdict != "trial"][-1] == "committed"
    newest = vm("web", "v10")
    assert world.last_good("web").digest == newest.digest


async def test_a_guest_that_commits_in_the_middle_of_a_burst_is_not_stopped_for_each_push() -> None:
    world = await quiet(vm("web", "v0", min_healthy=1.0))
    for number in range(1, 15):
        await world.push(state(vm("web", f"v{number}", min_healthy=1.0)))
        await world.run(1.5)
    await world.settle()
    assert world.hypervisor.stops["web"] <= 2
    assert world.last_good("web").digest == vm("web", "v14").digest


async def test_one_push_is_followed_at_once() -> None:
    world = await quiet(vm("web", "v0"))
    await world.push(state(vm("web", "v1")))
    await world.run(3)
    assert world.hypervisor.stops["web"] == 1


async def test_a_fix_overtakes_a_failing_trial_soon_after_it() -> None:
    world = await quiet(vm("web", "v0"))
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    await world.push(state(vm("web", "v1")))
    await world.run(2)
    await world.push(state(vm("web", "v2")))
    await world.run(4)
    assert "several changes came within 5s" in world.why("web")
    await world.run(6)
    assert world.hypervisor.living("web").machine.generation == 3


async def test_a_stream_of_pushes_does_not_keep_a_failing_trial_for_ever() -> None:
    world = await quiet(vm("web", "v0"))
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    await world.push(state(vm("web", "v1")))
    for number in range(2, 22):
        await world.run(2)
        await world.push(state(vm("web", f"v{number}")))
    assert world.hypervisor.living("web").machine.generation > 2


async def test_a_condemned_trial_is_followed_by_the_newest_at_once() -> None:
    world = await quiet(vm("web", "v0"))
    world.hypervisor.behaviour = lambda m: "exits" if m.generation == 2 else "good"
    await world.push(state(vm("web", "v1")))
    await world.run(1)
    await world.push(state(vm("web", "v2")))
    await world.settle()
    assert world.last_good("web").digest == vm("web", "v2").digest


async def test_a_burst_is_over_after_a_boot_of_the_host() -> None:
    world = await quiet(vm("web", "v0"))
    await push_quickly(world, 1, 3, 0.5)
    world.hypervisor.power_loss()
    world.clock.reboot()
    await world.restart()
    await world.settle()
    assert world.last_good("web").digest == vm("web", "v3").digest


@pytest.mark.shows(fault=136)
async def test_a_steady_stream_of_pushes_stops_a_guest_at_most_twice_a_minute() -> None:
    world = await quiet(vm("web", "v0"))
    for number in range(1, 61):
        await world.push(state(vm("web", f"v{number}", min_healthy=10.0)))
        await world.run(3)
    assert 4 <= world.hypervisor.stops["web"] <= 8, "in three minutes: neither at each, nor never"


@pytest.mark.shows(fault=136)
async def test_a_stream_of_pushes_does_not_keep_out_a_vm_whose_turn_comes_after_its_burst() -> None:
    world = await quiet(vm("web", "v0"))
    world.host.value = replace(world.host.value, memory_available_mib=0)
    for number in range(1, 31):
        await world.push(state(vm("web", f"v{number}", memory=256)))
        await world.run(3)
    world.host.value = replace(world.host.value, memory_available_mib=4096)
    await world.push(state(vm("web", "v31", memory=256)))
    await world.run(3)
    assert world.hypervisor.stops["web"] == 1
