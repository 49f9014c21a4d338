"""Images are read again in the background: what is due, at which pace, and what follows from rot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace

import pytest

from reconciler.engine.loop import Engine
from reconciler.engine.scrub import WEEK, Scrub, next_due
from reconciler.model.image import StoredImage
from tests.eventually import eventually
from tests.world import World, state, vm

NOW = 1_790_000_000.0
WEB = vm("web", verity=True)


def image(key: str, made: float, checked: float = 0.0, broken: str = "") -> StoredImage:
    return StoredImage(key, "layer", key, 1, made, 0.0, checked, broken)


def due(*images: StoredImage) -> str | None:
    return next_due({one.key: one for one in images}, NOW)


def test_the_image_that_was_read_longest_ago_is_due_after_a_week() -> None:
    young, old = image("young", NOW - WEEK + 1), image("old", NOW - WEEK)
    assert due(young) is None
    assert due(young, old, image("read", NOW - 9 * WEEK, NOW - 10.0)) == "old"
    assert due(old, image("older", NOW - 9 * WEEK, NOW - 2 * WEEK)) == "older"


def test_a_clock_that_was_set_back_and_a_broken_image_stop_nothing() -> None:
    assert due(image("ahead", NOW + 2 * WEEK)) == "ahead"
    assert due(image("broken", 0.0, 0.0, "image has sha256 0123")) is None


class Host:
    def __init__(self) -> None:
        self.world = World()
        self.world.source.push(state(vm("web", verity=True), vm("db")))
        self.engine = Engine(self.world.adapters, self.world.policy)
        self.scrub = Scrub(self.world.adapters, self.engine.checks, 1e12)

    async def days_pass(self, count: int) -> None:
        for _ in range(count * 24):
            self.world.clock.advance(3600.0)
            self.engine.wake()
            for _ in range(20):
                await asyncio.sleep(0)


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    host = Host()
    tasks = [asyncio.create_task(host.engine.run()), asyncio.create_task(host.scrub.run())]
    while not host.engine.ready() or {v.sync for v in host.engine.status().vms} != {"synced"}:
        host.world.clock.advance(1.0)
        host.world.hypervisor.probe()
        host.engine.wake()
        for _ in range(20):
            await asyncio.sleep(0)
    yield host
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_every_image_is_read_once_a_week(host: Host) -> None:
    await host.days_pass(8)
    images = len(host.world.images.stored())
    assert host.world.meter.counts["image sound"] == images
    await host.days_pass(8)
    assert host.world.meter.counts["image sound"] == 2 * images


async def test_an_image_that_rotted_is_reported_and_made_again_and_its_guest_is_left_alone(
    host: Host,
) -> None:
    key = WEB.layers[0].key
    host.world.images.rotten.add(key)
    pids = host.world.hypervisor.running()
    await host.days_pass(8)
    await eventually(lambda: host.world.images.built.count(key) == 2)
    (said,) = host.world.events("image-rotten")
    assert "guests of web run on it" in said
    assert host.world.hypervisor.running() == pids
    assert host.world.meter.counts["image rotten"] == 1
    assert host.engine.status().store.count("broken") == 0


async def test_a_person_may_have_one_image_read_or_all(host: Host) -> None:
    every = [check async for check in host.engine.check_images(None) if check.result]
    assert {check.result for check in every} == {"sound"}
    assert {check.images for check in every} == {len(host.world.images.stored())}
    web = WEB.layers[0]
    one = [check async for check in host.engine.check_images(web.title) if check.result]
    assert [check.key for check in one] == [web.key]


async def seconds_pass(host: Host, count: int) -> None:
    for _ in range(count):
        host.world.clock.advance(1.0)
        host.engine.wake()
        for _ in range(20):
            await asyncio.sleep(0)


def says_damaged(host: Host) -> None:
    (guest,) = (g for g in host.world.hypervisor.guests.values() if g.machine.vm == "web")
    guest.said = replace(guest.said, damaged=host.world.clock.now().boot)


async def test_what_a_guest_calls_damaged_is_read_within_seconds_and_judged(host: Host) -> None:
    await seconds_pass(host, 10)
    before = host.world.meter.counts["image sound"]
    says_damaged(host)
    await seconds_pass(host, 15)
    assert host.world.meter.counts["image sound"] == before + 1
    (found,) = host.world.events("damage-checked")
    assert "all images of web (1) are as they were made" in found


async def test_rot_that_a_guest_found_is_made_again_at_once(host: Host) -> None:
    key = WEB.layers[0].key
    host.world.images.rotten.add(key)
    says_damaged(host)
    await seconds_pass(host, 15)
    await eventually(lambda: host.world.images.built.count(key) == 2)
    (rotten,) = host.world.events("image-rotten")
    (found,) = host.world.events("damage-checked")
    assert key[:12] in rotten
    assert "web was right" in found
