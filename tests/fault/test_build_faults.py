"""Rows 19 and 45-47 of the fault matrix: builds that fail or hang, and images that go or differ."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from reconciler.content_store import ContentStore
from reconciler.errors import BuildUnavailable
from reconciler.model.image import BuiltImage
from reconciler.model.layer_kinds.tree_layer import TreeSource
from reconciler.model.layers import LayerSpec
from reconciler.model.names import VMName
from reconciler.model.policy import Policy
from tests.world import World, state, vm

LAYER = vm("web", "v2").layers[0].key


async def settled() -> World:
    return await World.settled(state(vm("web"), vm("other")))


@pytest.mark.shows(row=19)
async def test_row_19_a_disk_that_is_full_while_building_touches_no_vm_and_is_tried_again() -> None:
    world = await settled()
    pauses: list[float] = []
    full = True
    build = world.images.build_layer

    async def build_layer(spec: LayerSpec, content: ContentStore) -> BuiltImage:
        if full and spec.key == LAYER:
            pauses.append(world.clock.now().boot)
            raise BuildUnavailable("no space left", kind="disk-full")
        return await build(spec, content)

    world.images.build_layer = build_layer  # type: ignore[method-assign]
    await world.push(state(vm("web", "v2"), vm("other", "v2")))
    await world.run(120.0)
    assert world.hypervisor.running() == {"web": 1, "other": 2}
    assert world.hypervisor.stops["web"] == 0
    assert "no space left" in world.why("web")
    assert world.record("web").blocked == (), "the disk is full, not the generation bad"
    gaps = [later - earlier for earlier, later in itertools.pairwise(pauses)]
    assert gaps == sorted(gaps)
    assert len(gaps) in range(2, 7), "tried again, with pauses that grow"
    full = False
    await world.settle()
    assert world.hypervisor.running() == {"web": 2, "other": 2}


async def test_row_19_a_disk_with_too_little_room_is_named_as_what_a_build_waits_for() -> None:
    world = World(Policy("/state", memory_reserve_mib=0, disk_reserve_mib=100))
    await world.push(state(vm("web")))
    await world.settle()
    plenty = world.host.value
    world.host.value = replace(plenty, disk_free_mib=99)
    await world.push(state(vm("web", "v2")))
    await world.run(20.0)
    assert "99MiB are free, less than policy.disk_reserve_mib 100" in world.why("web")
    assert "disk" in {wait.kind for wait in world.status().vms[0].waits}
    world.host.value = plenty
    await world.settle()
    assert world.hypervisor.running() == {"web": 2}


@pytest.mark.shows(row=19)
async def test_row_19_a_build_that_finds_the_disk_full_has_what_nobody_pins_collected_at_once() -> (
    None
):
    world = await settled()
    garbage = LayerSpec.of(TreeSource("a" * 40, "./garbage"), "erofs")
    build, tries = world.images.build_layer, 0

    async def build_layer(spec: LayerSpec, content: ContentStore) -> BuiltImage:
        nonlocal tries
        if spec.key == LAYER:
            tries += 1
            if garbage.key in world.images.layers():
                raise BuildUnavailable("no space left", kind="disk-full")
        else:
            await build(garbage, content)
            await world.clock.sleep(100.0)  # as long as it runs, nothing else asks for a collection
        return await build(spec, content)

    world.images.build_layer = build_layer  # type: ignore[method-assign]
    await world.push(state(vm("other", "v2"), vm("web", "v2")))
    await world.run(30.0)
    assert world.images.collected == [garbage.key], "and nothing that is pinned"
    assert tries == 2
    assert world.hypervisor.running() == {"web": 2, "other": 1}
    await world.settle()
    assert world.hypervisor.running() == {"web": 2, "other": 2}


@pytest.mark.shows(row=45)
async def test_row_45_a_build_that_hangs_delays_nobody_else_and_touches_no_guest() -> None:
    world = await settled()
    build, cancelled = world.images.build_layer, list[str]()

    async def build_layer(spec: LayerSpec, content: ContentStore) -> BuiltImage:
        if spec.key == LAYER:
            try:
                await world.clock.sleep(900.0)
            finally:
                cancelled.append(spec.key)
            raise BuildUnavailable("the builder ran past its deadline, and was killed")
        return await build(spec, content)

    world.images.build_layer = build_layer  # type: ignore[method-assign]
    await world.push(state(vm("web", "v2"), vm("other", "v2")))
    await world.run(60.0)
    assert world.hypervisor.running() == {"web": 1, "other": 2}
    assert "is being built" in world.why("web")
    await world.restart()
    assert cancelled == [LAYER], "its worker does not outlive the daemon"
    world.images.build_layer = build  # type: ignore[method-assign]
    await world.settle()
    assert world.hypervisor.running() == {"web": 2, "other": 2}


@pytest.mark.shows(law=10, comparison=12, row=45)
async def test_row_45_the_time_of_a_build_is_not_charged_to_the_guest() -> None:
    world = await settled()
    build = world.images.build_layer

    async def build_layer(spec: LayerSpec, content: ContentStore) -> BuiltImage:
        await world.clock.sleep(50.0)  # startupDeadline is 30 s
        return await build(spec, content)

    world.images.build_layer = build_layer  # type: ignore[method-assign]
    await world.push(state(vm("web", "v2"), vm("other")))
    await world.settle()
    assert world.hypervisor.running() == {"web": 2, "other": 1}


@pytest.mark.shows(row=46)
async def test_row_46_a_build_that_gives_other_bytes_each_time_restarts_nothing_and_is_told() -> (
    None
):
    world = await settled()
    build, sums = world.images.build_layer, list[str]()

    async def build_layer(spec: LayerSpec, content: ContentStore) -> BuiltImage:
        built = await build(spec, content)
        sums.append(f"{len(sums):064x}")
        told = f"tree ./web: the same inputs gave {sums[-1]}"
        return BuiltImage(built.key, built.size_bytes, sums[-1], built.seconds, told)

    world.images.build_layer = build_layer  # type: ignore[method-assign]
    for _ in range(3):
        world.images.lose(vm("web").layers[0].key)
        await world.run(20.0)
    assert len(set(sums)) == 3
    assert world.hypervisor.starts == {"web": 1, "other": 1}, "the inputs are what it is named by"
    assert len(world.events("image-differs")) == 3
    assert world.meter.counts["build differs"] == 3


@pytest.mark.shows(row=47)
async def test_row_47_an_image_that_vanished_is_built_again_and_its_guest_runs_on() -> None:
    world = await settled()
    key = vm("web").layers[0].key
    world.images.lose(key)
    await world.run(20.0)
    assert key in world.images.layers()
    assert world.hypervisor.starts["web"] == 1
    told = "tree ./web is gone from the store, and is built again; guests run on"
    assert world.events("image-lost") == [told]
    world.images.lose(key)
    world.hypervisor.kill("web")
    await world.run(30.0)
    assert world.hypervisor.running()[VMName("web")] == 1, "and is started once it is back"
    assert world.images.built.count(key) == 3
