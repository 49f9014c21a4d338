"""The store: what counts as present, what survives, and what is collected."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from pathlib import Path

import pytest

from reconciler.clock import SystemClock
from reconciler.errors import BuildUnavailable
from reconciler.image.store import ImageStore
from reconciler.model.image import KernelSpec, PathKernel
from reconciler.model.layer_kinds.tree_layer import TreeSource
from reconciler.model.layers import LayerSpec
from reconciler.source.git.clients import TreeExporter
from tests.unit.image.trees import Repository

NOWHERE = TreeExporter(Path("/nowhere"))


def layer(repository: Repository, text: str = "1") -> LayerSpec:
    return LayerSpec.of(TreeSource(repository.tree({"file": text}), "./app"), "erofs")


async def reopened(tmp_path: Path) -> ImageStore:
    store = ImageStore(tmp_path / "state", SystemClock())
    await store.open()
    await store.close()
    return store


async def test_a_built_layer_is_there_after_a_restart(
    store: ImageStore, repository: Repository, tmp_path: Path
) -> None:
    spec = layer(repository)
    built = await store.build_layer(spec, repository.content)
    image = store.layer_path(spec.key).read_bytes()
    assert built.sha256 == hashlib.sha256(image).hexdigest()
    assert built.size_bytes == len(image)
    assert (await reopened(tmp_path)).layers() == {spec.key}


async def test_a_restart_reads_no_image_that_looks_as_it_did(
    store: ImageStore, repository: Repository, tmp_path: Path
) -> None:
    spec = layer(repository)
    await store.build_layer(spec, repository.content)
    image = store.layer_path(spec.key)
    before = image.stat()
    image.chmod(0o644)
    image.write_bytes(bytes(before.st_size))
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (await reopened(tmp_path)).layers() == {spec.key}


async def test_a_restored_copy_is_read_again_and_accepted(
    store: ImageStore, repository: Repository, tmp_path: Path
) -> None:
    spec = layer(repository)
    await store.build_layer(spec, repository.content)
    image = store.layer_path(spec.key)
    content = image.read_bytes()
    image.unlink()
    image.write_bytes(content)
    assert (await reopened(tmp_path)).layers() == {spec.key}
    assert str(image.stat().st_ino) in image.with_name("meta.json").read_text()


@pytest.mark.parametrize("file", ["image", "meta.json"])
@pytest.mark.parametrize("damage", ["truncated", "changed", "gone"])
async def test_a_broken_layer_is_not_present_and_is_built_again(
    store: ImageStore, repository: Repository, tmp_path: Path, file: str, damage: str
) -> None:
    spec = layer(repository)
    first = await store.build_layer(spec, repository.content)
    path = store.layer_path(spec.key).with_name(file)
    content = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(content[:100] if damage == "truncated" else b"{" + content[1:-1] + b"?")
    again = await reopened(tmp_path)
    assert again.layers() == frozenset()
    assert (await again.build_layer(spec, repository.content)).sha256 == first.sha256
    await again.close()


async def test_a_layer_removed_behind_our_back_is_built_again(
    store: ImageStore, repository: Repository
) -> None:
    spec = layer(repository)
    first = await store.build_layer(spec, repository.content)
    store.layer_path(spec.key).unlink()
    assert (await store.build_layer(spec, repository.content)).sha256 == first.sha256
    assert store.layer_path(spec.key).exists()


async def test_what_was_never_finished_is_removed_at_the_start(
    repository: Repository, tmp_path: Path
) -> None:
    unfinished = tmp_path / "state/layers/.new-0123-abc"
    unfinished.mkdir(parents=True)
    (unfinished / "image").write_bytes(b"half")
    (unfinished / "link").symlink_to(repository.path)
    await reopened(tmp_path)
    assert not unfinished.exists()
    assert repository.path.exists()


async def test_builds_of_one_key_share_one_build(
    store: ImageStore, repository: Repository, tmp_path: Path
) -> None:
    spec = layer(repository)
    builds = [store.build_layer(spec, repository.content) for _ in range(8)]
    built = await asyncio.gather(*builds)
    assert len(set(built)) == 1
    assert [path.name for path in (tmp_path / "state/layers").iterdir() if path.is_dir()] == [
        spec.key
    ]


async def test_one_who_gives_up_does_not_end_the_build_of_the_others(
    store: ImageStore, repository: Repository
) -> None:
    spec = layer(repository)
    impatient = asyncio.create_task(store.build_layer(spec, repository.content))
    patient = asyncio.create_task(store.build_layer(spec, repository.content))
    await asyncio.sleep(0)
    impatient.cancel()
    await patient
    assert impatient.cancelled()
    assert spec.key in store.layers()


async def test_collection_removes_what_no_pin_names(
    store: ImageStore, repository: Repository, tmp_path: Path
) -> None:
    pinned, loose = layer(repository, "pinned"), layer(repository, "loose")
    await store.build_layer(pinned, repository.content)
    built = await store.build_layer(loose, repository.content)
    assert await store.collect(frozenset({pinned.key})) >= built.size_bytes
    assert store.layers() == {pinned.key}
    assert [path.name for path in (tmp_path / "state/layers").iterdir() if path.is_dir()] == [
        pinned.key
    ]
    assert await store.collect(frozenset({pinned.key})) == 0


async def test_collection_leaves_what_a_newer_plan_names(
    store: ImageStore, repository: Repository
) -> None:
    spec = layer(repository)
    await store.build_layer(spec, repository.content)
    store.inventory.used(frozenset({spec.key}))
    await store.collect(frozenset())
    assert spec.key in store.layers()


async def test_collection_leaves_a_build_alone_that_is_under_way(
    store: ImageStore, repository: Repository
) -> None:
    spec = layer(repository)
    build = asyncio.create_task(store.build_layer(spec, repository.content))
    while not build.done():  # once it is done, nothing names it, and it may go
        await store.collect(frozenset())
        await asyncio.sleep(0)
    assert (await build).key == spec.key


async def test_a_full_disk_builds_nothing(repository: Repository, tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "state", SystemClock(), disk_reserve_bytes=1 << 60)
    await store.open()
    with pytest.raises(BuildUnavailable) as failure:
        await store.build_layer(layer(repository), repository.content)
    assert failure.value.kind == "disk-full"
    await store.close()


def host_kernel(tmp_path: Path) -> KernelSpec:
    contents = {"kernel": b"kernel", "initrd": b"initrd"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    source = PathKernel(
        str(tmp_path / "kernel"), str(tmp_path / "initrd"), sums["kernel"], sums["initrd"]
    )
    return KernelSpec.of("mine", source)


async def test_a_kernel_of_the_host_is_copied_into_the_store(
    store: ImageStore, tmp_path: Path
) -> None:
    spec = host_kernel(tmp_path)
    await store.build_kernel(spec, NOWHERE)
    kernel, initrd = store.kernel_paths(spec.key)
    assert (kernel.read_bytes(), initrd.read_bytes()) == (b"kernel", b"initrd")
    assert (await reopened(tmp_path)).kernels() == {spec.key}


@pytest.mark.parametrize("file", ["kernel", "initrd"])
async def test_a_kernel_that_changed_since_it_was_read_is_refused(
    store: ImageStore, tmp_path: Path, file: str
) -> None:
    spec = host_kernel(tmp_path)
    (tmp_path / file).write_bytes(b"another")
    with pytest.raises(BuildUnavailable, match="has changed"):
        await store.build_kernel(spec, NOWHERE)
    assert store.kernels() == frozenset()


async def test_a_kernel_that_is_a_pipe_holds_nobody_up(store: ImageStore, tmp_path: Path) -> None:
    spec = host_kernel(tmp_path)
    (tmp_path / "kernel").unlink()
    os.mkfifo(tmp_path / "kernel")
    async with asyncio.timeout(5):
        with pytest.raises(Exception, match="not a file"):
            await store.build_kernel(spec, NOWHERE)


@pytest.mark.parametrize("damage", ["truncated", "replaced", "folder gone"])
async def test_a_look_finds_an_image_that_was_changed_while_we_ran(
    store: ImageStore, repository: Repository, damage: str
) -> None:
    spec = layer(repository)
    first = await store.build_layer(spec, repository.content)
    image = store.layer_path(spec.key)
    content = image.read_bytes()
    image.unlink()
    if damage == "folder gone":
        shutil.rmtree(image.parent)
    else:
        image.write_bytes(content[:100] if damage == "truncated" else bytes(len(content)))
    assert await store.look() == {spec.key}
    assert (await store.build_layer(spec, repository.content)).sha256 == first.sha256
    assert image.read_bytes() == content


async def test_an_image_that_was_only_touched_is_verified_and_not_made_again(
    store: ImageStore, repository: Repository
) -> None:
    spec = layer(repository)
    await store.build_layer(spec, repository.content)
    image = store.layer_path(spec.key)
    os.utime(image, (1, 1))
    assert await store.look() == {spec.key}
    await store.build_layer(spec, NOWHERE)
    assert image.stat().st_mtime == 1
    assert await store.look() == frozenset()


@pytest.mark.parametrize("file", ["vmlinuz", "initrd"])
async def test_a_kernel_that_vanishes_while_we_run_is_noticed_and_made_again(
    store: ImageStore, tmp_path: Path, file: str
) -> None:
    spec = host_kernel(tmp_path)
    await store.build_kernel(spec, NOWHERE)
    (tmp_path / "state/kernels" / spec.key / file).unlink()
    assert await store.look() == {spec.key}
    assert store.kernels() == frozenset()
    await store.build_kernel(spec, NOWHERE)
    assert all(path.exists() for path in store.kernel_paths(spec.key))
    assert await store.look() == frozenset()
