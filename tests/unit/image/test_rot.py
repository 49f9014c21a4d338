"""Images whose bytes change below an unchanged file: found by reading, and never used again."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from reconciler.clock import SystemClock
from reconciler.image.store import ImageStore
from reconciler.model.layer_kinds.tree_layer import TreeSource
from reconciler.model.layers import LayerSpec
from reconciler.model.store_status import ImageCheck
from tests.unit.image.trees import Repository

FAST = 1e12
SLOW = 1024.0
"""Bytes per second: no image of these tests is read in its time."""


def layer(repository: Repository, text: str = "1") -> LayerSpec:
    return LayerSpec.of(TreeSource(repository.tree({"file": text}), "./app"), "erofs")


def rot(image: Path) -> None:
    """Flip one byte, and leave size, times and inode as they were."""
    before = image.stat()
    image.chmod(0o644)
    with image.open("r+b") as file:
        file.seek(before.st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes((byte[0] ^ 1,)))
    image.chmod(0o444)
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))


async def check(store: ImageStore, key: str, speed: float = FAST) -> ImageCheck:
    return await store.inventory.read_again(key, bytes_per_second=speed, progress=lambda _: None)


async def test_a_sound_image_is_read_whole_and_remembered(
    store: ImageStore, repository: Repository, tmp_path: Path
) -> None:
    spec = layer(repository)
    built = await store.build_layer(spec, repository.content)
    assert store.inventory.stored()[spec.key].checked_wall == 0.0
    found = await check(store, spec.key)
    assert (found.result, found.read_bytes) == ("sound", built.size_bytes)
    seen = store.inventory.stored()[spec.key].checked_wall
    assert seen > 0.0
    again = ImageStore(tmp_path / "state", SystemClock())
    await again.open()
    assert again.inventory.stored()[spec.key].checked_wall == seen
    await again.close()


async def test_a_flipped_byte_makes_an_image_missing_and_leaves_its_file_to_guests(
    store: ImageStore, repository: Repository
) -> None:
    spec = layer(repository)
    await store.build_layer(spec, repository.content)
    image = store.layer_path(spec.key)
    sound, inode = image.read_bytes(), image.stat().st_ino
    rot(image)
    assert await store.look() == frozenset(), "nothing can be seen without reading"
    found = await check(store, spec.key)
    assert found.result == "rotten"
    assert "image has sha256" in found.why
    assert spec.key not in store.layers()
    assert image.stat().st_ino == inode, "a guest may have it open, or be about to"
    assert store.inventory.stored()[spec.key].broken == found.why
    await store.build_layer(spec, repository.content)
    assert image.read_bytes() == sound
    assert (await check(store, spec.key)).result == "sound"
    assert store.inventory.stored()[spec.key].broken == ""


async def test_a_restart_does_not_take_a_rotten_image_for_sound(
    store: ImageStore, repository: Repository, tmp_path: Path
) -> None:
    spec = layer(repository)
    await store.build_layer(spec, repository.content)
    rot(store.layer_path(spec.key))
    await check(store, spec.key)
    again = ImageStore(tmp_path / "state", SystemClock())
    await again.open()
    assert spec.key not in again.layers()
    await again.close()


async def test_a_rotten_image_that_nothing_names_is_collected(
    store: ImageStore, repository: Repository
) -> None:
    spec = layer(repository)
    await store.build_layer(spec, repository.content)
    rot(store.layer_path(spec.key))
    await check(store, spec.key)
    assert await store.collect(frozenset()) > 0
    assert not store.layer_path(spec.key).exists()
    assert store.inventory.stored() == {}


async def test_an_image_that_is_collected_while_it_is_read_is_gone_and_not_rotten(
    store: ImageStore, repository: Repository
) -> None:
    spec = layer(repository)
    await store.build_layer(spec, repository.content)
    reading = asyncio.create_task(check(store, spec.key, 20_000.0))
    await asyncio.sleep(0)
    await store.collect(frozenset())
    assert (await reading).result == "gone"
    assert (await check(store, spec.key)).result == "gone"


async def test_a_reading_that_is_cancelled_ends_at_once(
    store: ImageStore, repository: Repository
) -> None:
    spec = layer(repository)
    await store.build_layer(spec, repository.content)
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def progress(_size: int) -> None:
        loop.call_soon_threadsafe(begun.set)

    reading = asyncio.create_task(
        store.inventory.read_again(
            spec.key, bytes_per_second=SLOW / 1024,
            progress=progress,
        )
    )  # fmt: skip
    await begun.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert spec.key in store.layers()


async def test_what_something_names_was_last_used_when_it_stopped_to(
    store: ImageStore, repository: Repository, tmp_path: Path
) -> None:
    spec = layer(repository)
    await store.build_layer(spec, repository.content)
    store.inventory.used(frozenset({spec.key}))
    assert store.inventory.stored()[spec.key].used_wall == 0.0
    begun = SystemClock().now().wall
    store.inventory.used(frozenset())
    assert store.inventory.stored()[spec.key].used_wall >= begun
    await store.look()
    killed = ImageStore(tmp_path / "state", SystemClock())
    await killed.open()
    assert killed.inventory.stored()[spec.key].used_wall >= begun
    await killed.close()
    same = store.inventory.stored()
    store.inventory.used(frozenset())
    assert store.inventory.stored() is same
