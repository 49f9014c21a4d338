"""What stays in the store of images, what goes, and what people see of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.errors import RequestRefused
from reconciler.explain.image_uses import find_image, image_uses, of_vm, store_report, to_read
from reconciler.model.desired import GroupSpec, VMSpec
from reconciler.model.names import GroupName, LayerKey
from reconciler.model.policy import Policy
from reconciler.model.request import CollectImages, RollbackTo
from reconciler.model.store_status import ImageStatus, StoreReport
from reconciler.requests.image_store import rot_found
from tests.world import World, state, vm

MIB = 1 << 20
POLICY = Policy(state_dir="/state", memory_reserve_mib=0, disk_reserve_mib=0)


def report(world: World) -> StoreReport:
    passed = world.reconciler.passed
    assert passed is not None
    return store_report(
        passed.desired, passed.observed, world.durable.record(), world.policy
    )  # fmt: skip


def by_key(world: World, spec: VMSpec) -> ImageStatus:
    return next(i for i in report(world).images if i.key == spec.layers[0].key)


def uses(world: World, name: str) -> list[tuple[str, int | None, str]]:
    passed = world.reconciler.passed
    assert passed is not None
    found = image_uses(name, report(world), passed.desired, passed.observed, world.durable.record())
    return [(use.vm, use.generation, use.why) for use in found.uses]


async def versions(world: World, *names: str) -> None:
    for name in names:
        await world.push(state(vm("web", name)))
        await world.settle()


async def test_each_image_says_what_it_is_to_the_host() -> None:
    world = await World.settled(state(vm("web"), vm("db")))
    await world.push(state(vm("web", "v2"), vm("db")))
    await world.settle()
    v1, v2 = by_key(world, vm("web")), by_key(world, vm("web", "v2"))
    assert (v1.state, v1.vms, v1.generations) == ("kept", 1, 1)
    assert (v2.state, v2.vms, v2.generations) == ("used", 1, 1)
    kernel = find_image("kernel debian", report(world))
    assert (kernel.kind, kernel.vms, kernel.generations) == ("kernel", 2, 3)
    store = report(world).store
    assert (store.total("used"), store.total("kept"), store.total()) == (3 * MIB, MIB, 4 * MIB)
    assert store.saved_bytes == MIB, "the kernel has one copy for two VMs"


async def test_why_an_image_stays_is_said_for_each_generation() -> None:
    world = await World.settled(state(vm("web")))
    await versions(world, "v2")
    await world.ask(RollbackTo("web"))
    await world.settle()
    key = vm("web").layers[0].key
    assert uses(world, key[:8]) == [("web", 1, "runs, held by a rollback that was requested")]
    key = vm("web", "v2").layers[0].key
    assert uses(world, key[:8]) == [("web", 2, "desired, last good")]


async def test_a_desired_image_is_missing_until_it_is_built() -> None:
    world = await World.settled(state(vm("web")))
    spec = vm("new")
    world.images.bad.add(spec.layers[0].key)
    await world.push(state(vm("web"), spec))
    await world.settle()
    image = by_key(world, spec)
    assert (image.state, image.size_bytes, image.vms) == ("missing", 0, 1)
    assert uses(world, spec.layers[0].key) == [("new", None, "desired, and not started yet")]
    with pytest.raises(RequestRefused, match="not in the store"):
        to_read(report(world), image.key)


async def test_images_are_there_before_anything_may_restart() -> None:
    group = GroupSpec(GroupName("g"), approval="manual")
    world = await World.settled(state(vm("web", group="g"), vm("db"), groups=(group,)))
    wanted = vm("web", "v2", group="g")
    await world.push(state(wanted, vm("db"), groups=(group,)))
    await world.settle()
    assert world.hypervisor.running() == {"web": 1, "db": 1}
    found = of_vm(report(world), wanted)
    assert {i.key for i in found.images} == {*wanted.image_keys}
    assert {(i.wanted, i.state) for i in found.images} == {(True, "used")}
    assert not by_key(world, vm("web")).wanted


async def test_a_composed_layer_is_shown_with_its_parts_and_is_as_large_as_they_are() -> None:
    world = World()
    base = LayerKey("b" * 64)
    world.images.composed = lambda key: (base, LayerKey(key[::-1]))
    await world.push(state(vm("web"), vm("db")))
    await world.settle()
    found = report(world)
    web = by_key(world, vm("web"))
    assert (web.kind, web.size_bytes, web.parts[0]) == ("composed", 2 * MIB, base)
    order = [i.key for i in found.images]
    assert order.index(web.parts[1]) == order.index(web.key) + 1
    part = find_image(base, found)
    assert (part.state, part.vms) == ("used", 2)
    assert found.store.total() == 4 * MIB, "the shared base counts once"
    assert {i.key for i in to_read(found, web.key)} == {web.key, *web.parts}


async def test_a_request_collects_what_the_bound_would_keep() -> None:
    world = await World.settled(state(vm("web")), replace(POLICY, store_max_mib=1000))
    await versions(world, *(f"v{n}" for n in range(2, 10)))
    old = by_key(world, vm("web"))
    assert (old.state, old.collectable) == ("unused", False)
    await world.ask(CollectImages())
    await world.settle()
    assert old.key not in {i.key for i in report(world).images}
    assert world.durable.record().store.collect_wall is None, "it is done"
    assert world.events("collection-requested")
    kept = {g.spec.layers[0].key for g in world.record("web").generations}
    assert kept <= world.images.on_disk()


async def test_a_request_to_collect_is_done_after_a_restart_of_the_daemon() -> None:
    world = await World.settled(state(vm("web")), replace(POLICY, store_max_mib=1000))
    await versions(world, *(f"v{n}" for n in range(2, 10)))
    await world.ask(CollectImages())
    await world.restart()
    await world.settle()
    assert vm("web").layers[0].key not in world.images.on_disk()


async def test_a_push_that_names_an_image_again_keeps_it_from_a_collection_under_way() -> None:
    world = await World.settled(
        state(vm("web")), replace(POLICY, store_max_mib=1000, generations_kept=1)
    )
    await versions(world, "v2", "v3")
    world.faults.chooser = lambda _n, call: "delay" if call == "collect" else None
    await world.ask(CollectImages())
    await world.step()
    assert world.workers.building()
    await world.push(state(vm("web")))
    await world.settle()
    assert world.images.built.count(by(1)) == 1
    assert by(2) not in world.images.on_disk()


async def test_unnamed_images_stay_within_the_bound_and_the_oldest_use_goes_first() -> None:
    world = await World.settled(
        state(vm("web")), replace(POLICY, store_max_mib=4, generations_kept=1)
    )
    await versions(world, "v2", "v3", "v4", "v5")
    there = {n for n in range(1, 6) if by(n) in world.images.on_disk()}
    assert there == {3, 4, 5}, "with the kernel that is 4 MiB"
    built = list(world.images.built)
    await versions(world, "v3")
    assert world.images.built == built, "what was kept is not built again"


def by(number: int) -> str:
    return vm("web", f"v{number}").layers[0].key


async def test_a_disk_that_gets_short_takes_unnamed_images_before_anything_waits() -> None:
    policy = replace(POLICY, store_max_mib=1000, disk_reserve_mib=1000, generations_kept=1)
    world = await World.settled(state(vm("web")), policy)
    await versions(world, "v2", "v3")
    assert by(1) in world.images.on_disk()
    world.host.value = replace(world.host.value, disk_free_mib=1999)
    await world.run(30.0)
    assert by(1) not in world.images.on_disk()
    assert by(3) in world.images.on_disk()


async def test_needed_images_above_the_bound_stay_and_builds_go_on_and_status_warns() -> None:
    world = await World.settled(state(vm("web")), replace(POLICY, store_max_mib=3))
    assert report(world).store.warnings == ()
    await versions(world, "v2", "v3")
    assert {by(1), by(2), by(3)} <= world.images.on_disk()
    assert world.hypervisor.running() == {"web": 3}
    (warning,) = report(world).store.warnings
    assert "take 4MiB, more than policy.store_max_mib 3: none is removed" in warning


async def test_a_collection_that_failed_is_tried_again() -> None:
    world = await World.settled(state(vm("web")), replace(POLICY, generations_kept=1))
    failures = ["collect"]
    world.faults.chooser = lambda _n, call: "error" if call in failures and failures.pop() else None
    await versions(world, "v2", "v3", "v4")
    assert world.events("collect-failed")
    await world.run(300.0)
    assert by(1) not in world.images.on_disk()


async def test_a_rotten_image_is_made_again_and_its_guest_runs_on_and_is_named() -> None:
    world = await World.settled(state(vm("web"), vm("db")))
    key = vm("web").layers[0].key
    world.images.rotten.add(key)
    check = await world.images.read_again(key, bytes_per_second=1e12, progress=lambda _: None)
    passed = world.reconciler.passed
    assert passed is not None
    changes = rot_found(check, passed.observed, world.durable.record(), world.clock.now())
    await world.durable.write(changes)
    pids = world.hypervisor.running()
    await world.settle()
    assert world.images.built.count(key) == 2
    assert (world.hypervisor.running(), world.hypervisor.stops["web"]) == (pids, 0)
    (said,) = world.events("image-rotten")
    assert "guests of web run on it" in said
    assert "made again before its next use" in said


async def test_a_rotten_image_of_an_old_generation_is_made_again_before_a_rollback_needs_it() -> (
    None
):
    world = await World.settled(state(vm("web")))
    await versions(world, "v2")
    key = by(1)
    world.images.rotten.add(key)
    await world.images.read_again(key, bytes_per_second=1e12, progress=lambda _: None)
    await world.settle()
    assert by_key(world, vm("web")).state == "broken"
    await world.ask(RollbackTo("web"))
    await world.settle()
    assert world.images.built.count(key) == 2
    assert world.hypervisor.running() == {"web": 1}


async def test_a_key_or_title_that_means_several_images_is_refused_with_their_keys() -> None:
    world = await World.settled(state(vm("web")))
    await versions(world, "v2")
    with pytest.raises(RequestRefused, match="means 2 images") as refused:
        find_image("tree ./web", report(world))
    assert by(2)[:12] in refused.value.hint
