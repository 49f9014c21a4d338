"""A guest says that a block of a layer is damaged: what counts of it, what is read again, and what people are shown."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.observed import Exit
from reconciler.planning.intake.damage import APART, suspects
from tests.world import World, changed, state, vm

SEALED = vm("web", verity=True)
KEY = SEALED.layers[0].key


def says_damaged(world: World, name: str = "web") -> None:
    (guest,) = (g for g in world.hypervisor.guests.values() if g.machine.vm == name)
    guest.said = replace(guest.said, damaged=world.clock.now().boot)


async def read(world: World) -> list[str]:
    """What the scrub does; returns the images that were read."""
    since = suspects(world.durable.record().vms, world.images.parts())
    keys = sorted(since.keys() & world.images.stored().keys())
    for key in keys:
        await world.images.read_again(key, bytes_per_second=1e12, progress=lambda _: None)
    return keys


async def test_a_report_is_an_event_and_has_the_images_of_that_vm_alone_read_again() -> None:
    world = await World.settled(state(SEALED, vm("db", verity=True)))
    pids = world.hypervisor.running()
    says_damaged(world)
    await world.settle()
    (said,) = world.events("block-damaged")
    assert said.startswith("web says that a block of its layers is not what was built")
    assert world.events("damage-checked") == []
    assert await read(world) == [KEY]
    await world.settle()
    (found,) = world.events("damage-checked")
    assert "all images of web (1) are as they were made" in found
    assert await read(world) == []
    assert world.hypervisor.running() == pids


async def test_a_rotten_copy_is_named_and_made_again() -> None:
    world = await World.settled(state(SEALED))
    world.images.rotten.add(KEY)
    says_damaged(world)
    await world.settle()
    await read(world)
    await world.settle()
    (found,) = world.events("damage-checked")
    assert f"web was right: the store's copy of image {KEY[:6]} ({KEY[:12]}) had rotted" in found
    assert world.images.built.count(KEY) == 2


async def test_all_parts_of_a_layer_are_read() -> None:
    parts = ("a" * 64, "b" * 64)
    world = World()
    world.images.composed = lambda key: parts if key == KEY else ()  # type: ignore[assignment,return-value]
    await world.push(state(SEALED))
    await world.settle()
    world.images.rotten.add(parts[1])
    says_damaged(world)
    await world.settle()
    assert await read(world) == list(parts)
    await world.settle()
    (found,) = world.events("damage-checked")
    assert parts[1][:12] in found
    assert parts[0][:12] not in found


async def test_a_guest_that_compares_nothing_is_not_believed() -> None:
    world = await World.settled(state(vm("web")))
    says_damaged(world)
    await world.settle()
    assert world.events("block-damaged") == []
    assert await read(world) == []


async def test_a_vm_is_heard_once_an_hour_however_often_its_guests_say_so() -> None:
    world = await World.settled(state(SEALED))
    for _ in range(5):
        says_damaged(world)
        await world.settle()
        await read(world)
        world.hypervisor.kill("web")
        await world.settle()
    assert len(world.events("block-damaged")) == 1
    world.clock.advance(APART)
    says_damaged(world)
    await world.settle()
    assert len(world.events("block-damaged")) == 2


async def test_a_guest_that_died_of_a_damaged_block_is_heard_too() -> None:
    world = await World.settled(state(SEALED))
    (instance,) = world.hypervisor.guests
    world.hypervisor.end(instance, Exit(status=1, panicked=True, damaged=True))
    await world.settle()
    assert len(world.events("block-damaged")) == 1
    assert await read(world) == [KEY]


async def test_a_report_is_heard_once_over_restarts_of_the_daemon() -> None:
    world = await World.settled(state(SEALED))
    says_damaged(world)
    await world.settle()
    await read(world)
    await world.settle()
    for _ in range(2):
        await world.restart()
        world.clock.advance(2 * APART)
        await world.settle()
    assert (len(world.events("block-damaged")), len(world.events("damage-checked"))) == (1, 1)


async def test_a_report_of_before_the_clock_was_set_back_is_judged_all_the_same() -> None:
    world = await World.settled(state(SEALED))
    says_damaged(world)
    await world.settle()
    world.clock.step_wall(-3.2e7)
    await world.settle()
    await read(world)
    await world.settle()
    assert len(world.events("damage-checked")) == 1
    assert await read(world) == []


async def test_the_report_of_a_generation_that_is_gone_is_closed_without_a_word() -> None:
    policy = replace(World().policy, generations_kept=1)
    world = await World.settled(state(SEALED), policy)
    says_damaged(world)
    await world.settle()
    for memory in (129, 130, 131):
        await world.push(state(changed(SEALED, memory_mib=memory)))
        await world.settle()
    damage = world.record("web").damage
    assert damage is not None
    assert (damage.settled, await read(world), world.events("damage-checked")) == (True, [], [])


async def test_an_image_that_left_the_store_keeps_no_report_open() -> None:
    world = await World.settled(state(SEALED))
    says_damaged(world)
    await world.settle()
    await world.push(state(vm("web", "v2", verity=True)))
    await world.settle()
    world.images.lose(KEY)
    await world.run(60.0)
    await read(world)
    await world.settle()
    (found,) = world.events("damage-checked")
    assert "1 of its images left the store" in found
