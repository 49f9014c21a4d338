"""Ready images as layers: taken as they are, by content, or refused with what they are."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.clock import SystemClock
from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.image.build_site import Sources
from reconciler.image.ready_formats import HEAD_BYTES, described, format_of
from reconciler.image.store import ImageStore
from reconciler.model.layer_kinds.described_source import StoreFormat
from reconciler.model.layer_kinds.image_layer import ImageSource, ReadyFormat
from reconciler.model.layers import LayerSpec
from tests.unit.image import ready
from tests.unit.image.stranger import serving, whole
from tests.unit.image.trees import Repository


def layer(source: ImageSource, store_format: StoreFormat = "erofs") -> LayerSpec:
    return LayerSpec.of(source, store_format)


def of_host(path: Path, *, declared: ReadyFormat | None = None, sha256: str = "") -> LayerSpec:
    return layer(ImageSource(sha256 or ready.sha256(path), str(path), format=declared or ""))


@pytest.fixture
def content(tmp_path: Path) -> Path:
    return ready.folder_with(tmp_path / "content", a="1\n", b="2\n")


@pytest.mark.parametrize("kind", ["erofs", "squashfs", "ext4"])
async def test_a_ready_file_of_the_host_is_a_layer_byte_for_byte(
    store: ImageStore, repository: Repository, content: Path, tmp_path: Path, kind: ReadyFormat
) -> None:
    image = ready.make(kind, content, tmp_path / "ready.img")
    spec = of_host(image)
    built = await store.build_layer(spec, repository.content)
    assert built.sha256 == ready.sha256(image)
    assert store.layer_path(spec.key).read_bytes() == image.read_bytes()


async def test_one_file_is_one_copy_wherever_it_comes_from_and_whatever_a_vm_is_built_in(
    tmp_path: Path, repository: Repository, content: Path
) -> None:
    image = ready.make("erofs", content, tmp_path / "ready.img")
    sha256 = ready.sha256(image)
    with serving(lambda _stranger: whole(image.read_bytes())) as stranger:
        store = ImageStore(
            tmp_path / "state", SystemClock(), sources=Sources(image_urls=(stranger.pattern,))
        )
        await store.open()
        for source in (
            ImageSource(sha256, url=stranger.url("/a")),
            ImageSource(sha256, url=stranger.url("/b"), size=image.stat().st_size),
            ImageSource(sha256, path=str(image), format="erofs"),
        ):
            for store_format in ("erofs", "squashfs"):
                await store.build_layer(layer(source, store_format), repository.content)
        await store.close()
    assert len(stranger.asked) == 1
    assert len(store.layers()) == 1
    assert [path.name for path in (tmp_path / "state/downloads").iterdir()] == []


async def test_a_file_that_is_not_what_the_manifest_says_is_never_a_layer(
    store: ImageStore, repository: Repository, content: Path, tmp_path: Path
) -> None:
    image = ready.make("erofs", content, tmp_path / "ready.img")
    spec = of_host(image)
    with image.open("ab") as file:
        file.write(b"more")
    with pytest.raises(BuildUnavailable, match=f"image {image}: has another sha256") as failed:
        await store.build_layer(spec, repository.content)
    assert failed.value.kind == "changed-file"
    assert store.layers() == frozenset()
    os.truncate(image, image.stat().st_size - 4)
    await store.build_layer(spec, repository.content)
    assert store.layers() == {spec.key}


async def test_a_collection_removes_what_is_left_of_old_downloads(
    store: ImageStore, tmp_path: Path
) -> None:
    for name, age in (("old", 8 * 86_400), ("new", 60)):
        partial = tmp_path / f"state/downloads/{name}.partial"
        partial.write_bytes(b"begun")
        os.utime(partial, (partial.stat().st_mtime - age,) * 2)
    await store.collect(frozenset())
    assert [path.name for path in (tmp_path / "state/downloads").iterdir()] == ["new.partial"]


@pytest.mark.parametrize("size", [1, 1 << 20])
async def test_a_size_of_the_manifest_is_kept(
    store: ImageStore, repository: Repository, content: Path, tmp_path: Path, size: int
) -> None:
    image = ready.make("erofs", content, tmp_path / "ready.img")
    source = ImageSource(ready.sha256(image), str(image), size=size)
    with pytest.raises(BuildUnavailable, match=f"is not a file of {size} bytes"):
        await store.build_layer(layer(source), repository.content)


def missing(path: Path, _good: Path) -> None:
    path.unlink(missing_ok=True)


def pipe(path: Path, _good: Path) -> None:
    os.mkfifo(path)


def folder(path: Path, _good: Path) -> None:
    path.mkdir()


def link(path: Path, good: Path) -> None:
    path.symlink_to(good)


def behind_a_link(path: Path, good: Path) -> None:
    real = path.parent.with_name("real")
    real.mkdir()
    good.rename(real / path.name)
    path.parent.rmdir()
    path.parent.symlink_to("real")


@pytest.mark.parametrize("make", [missing, pipe, folder, link, behind_a_link])
async def test_what_is_no_plain_file_of_the_host_is_not_read_even_if_it_leads_to_the_right_one(
    store: ImageStore,
    repository: Repository,
    content: Path,
    tmp_path: Path,
    make: Callable[[Path, Path], None],
) -> None:
    good = ready.make("erofs", content, tmp_path / "good.img")
    sha256 = ready.sha256(good)
    path = tmp_path / "images/one.img"
    path.parent.mkdir()
    make(path, good)
    with pytest.raises(
        BuildUnavailable, match=f"image {path}: (cannot be opened|is not a file)"
    ) as failed:
        await store.build_layer(of_host(path, sha256=sha256), repository.content)
    assert "it is tried again" in failed.value.hint
    assert store.layers() == frozenset()


async def test_a_format_that_the_file_does_not_have_is_refused_with_the_one_it_has(
    store: ImageStore, repository: Repository, content: Path, tmp_path: Path
) -> None:
    image = ready.make("squashfs", content, tmp_path / "ready.img")
    with pytest.raises(BuildFailed, match="is squashfs, and the manifest says ext4") as failed:
        await store.build_layer(of_host(image, declared="ext4"), repository.content)
    assert failed.value.hint == "write `format: squashfs`, or name another file"


def tar(path: Path) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("a"), io.BytesIO())


def disk(path: Path, label: str) -> None:
    path.write_bytes(bytes(4 << 20))
    subprocess.run(
        ["sfdisk", "-q", path], input=f"label: {label}\n,\n", text=True, check=True, timeout=20
    )


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", "b")


def fat(path: Path) -> None:
    path.write_bytes(
        b"\xeb\x3c\x90MSDOS5.0".ljust(54, b"\0") + b"FAT16   ".ljust(456, b"\0") + b"\x55\xaa"
    )


NO_LAYERS: dict[str, Callable[[Path], object]] = {
    "a disk with an MBR partition table": lambda path: disk(path, "dos"),
    "a disk with a GPT partition table": lambda path: disk(path, "gpt"),
    "a qcow2 disk": lambda path: path.write_bytes(b"QFI\xfb" + bytes(512)),
    "compressed by gzip": lambda path: path.write_bytes(gzip.compress(b"x")),
    "compressed by xz": lambda path: path.write_bytes(lzma.compress(b"x")),
    "compressed by bzip2": lambda path: path.write_bytes(bz2.compress(b"x")),
    "a zip archive": zipped,
    "a tar archive": tar,
    "a FAT file system": fat,
    "a page of HTML or XML": lambda path: path.write_bytes(b"\n<!DOCTYPE html><p>Log in"),
    "empty, or zeros at its beginning": lambda path: path.write_bytes(b""),
    "of an unknown format": lambda path: path.write_bytes(b"#!/bin/sh\n"),
    "a program": lambda path: path.write_bytes(Path("/bin/true").read_bytes()),
}


@pytest.mark.parametrize("words", NO_LAYERS)
async def test_what_is_no_layer_is_refused_with_what_it_is(
    store: ImageStore, repository: Repository, tmp_path: Path, words: str
) -> None:
    path = tmp_path / "other.img"
    NO_LAYERS[words](path)
    with pytest.raises(BuildFailed, match=f"image {path}: is {words}") as failed:
        await store.build_layer(of_host(path), repository.content)
    if "disk" in words:
        assert "`disk`" in failed.value.hint
    assert store.layers() == frozenset()


def test_any_first_bytes_are_a_format_or_have_words_and_a_hint() -> None:
    draw = random.Random(5)  # noqa: S311  # the same in each run
    for _ in range(3000):
        head = bytearray(draw.randbytes(draw.choice([0, 1, 3, 100, 1100, HEAD_BYTES])))
        for offset, mark in ((0, b"hsqs"), (1080, b"\x53\xef"), (510, b"\x55\xaa")):
            if draw.random() < 0.2:
                head[offset : offset + len(mark)] = mark
        assert format_of(bytes(head)) or all(described(bytes(head)))
