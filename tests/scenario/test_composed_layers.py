"""A layer of several images: a guest has a disk for each, and none is collected while it may be needed."""

from __future__ import annotations

from reconciler.model.layers import LayerSpec
from reconciler.model.names import LayerKey, digest_of
from reconciler.model.policy import Policy
from reconciler.model.request import RestartVM
from tests.world import World, state, vm

BASE = LayerKey("b" * 64)


def parts_of(key: LayerKey) -> tuple[LayerKey, ...]:
    return BASE, LayerKey(digest_of({"part": key}))


async def composing(content: str = "v1") -> World:
    world = World(Policy("/state", prune=True, memory_reserve_mib=0, disk_reserve_mib=0))
    world.images.composed = parts_of
    await world.push(state(vm("web", content)))
    await world.settle()
    return world


def layer(world: World) -> LayerSpec:
    (only,) = world.last_good("web").spec.layers
    return only


async def test_a_guest_has_a_disk_for_each_part_bottom_first() -> None:
    world = await composing()
    (guest,) = world.hypervisor.all_living("web")
    assert [disk.path for disk in guest.machine.layers] == [
        f"/state/layers/{part}/image" for part in parts_of(layer(world).key)
    ]
    assert [disk.serial for disk in guest.machine.layers] == ["layer0", "layer1"]


async def test_parts_of_what_runs_and_of_what_may_be_gone_back_to_are_kept() -> None:
    world = await composing()
    first = parts_of(layer(world).key)
    await world.push(state(vm("web", "v2")))
    await world.settle()
    second = parts_of(layer(world).key)
    await world.run(60)
    assert world.images.on_disk() >= {*first, *second}
    await world.push(state(vm("db", "v1")))
    await world.run(600)
    assert world.images.on_disk() & {*first, *second} == {BASE}


async def test_a_part_that_is_lost_is_built_again_and_the_guest_runs_on() -> None:
    world = await composing()
    world.images.lose(parts_of(layer(world).key)[1])
    await world.run(600)
    await world.settle()
    assert layer(world).key in world.images.layers()
    assert world.hypervisor.starts["web"] == 1


async def test_a_guest_is_not_stopped_for_a_restart_on_a_part_that_was_just_taken_away() -> None:
    world = await composing()
    world.images.lose(parts_of(layer(world).key)[1])
    await world.ask(RestartVM("web"))
    await world.settle()
    assert world.images.built.count(layer(world).key) == 2
    assert world.hypervisor.starts["web"] == 2
