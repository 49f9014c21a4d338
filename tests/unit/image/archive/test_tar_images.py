"""Images of tars, made by the child and looked at by programs that are not ours."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import os
import struct
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.image.archive.packing import CannotPackError, Request, check, make_image
from reconciler.model.layer_kinds.described_source import StoreFormat
from tests.unit.image.archive.archives import (
    THEN,
    Item,
    Seen,
    device,
    file,
    folder,
    item,
    link,
    listed,
    symlink,
    tar_of,
    unpacked,
)
from tests.unit.image.archive.conftest import Pack, Sites, reads_tars

CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0).decode("latin-1")
"""cap_net_bind_service, as the kernel stores it."""
EVERYTHING: list[Item] = [
    folder("./", 0o750, uid=3, gid=4),
    folder("bin"),
    file("bin/su", "suid", mode=0o4755),
    file("bin/ping", "caps", mode=0o755, xattrs={"security.capability": CAPABILITY, "user.note": "é"}),
    link("bin/ping6", "bin/ping"),
    symlink("bin/sh", "/bin/su"),
    symlink("bin/long", "t" * 300),
    folder("tmp", 0o1777, uid=65534, gid=4_000_000_000),
    device("dev/null", 1, 3, tarfile.CHRTYPE),
    device("dev/sda", 8, 16, tarfile.BLKTYPE),
    item("run/pipe", tarfile.FIFOTYPE, mode=0o600),
    file("etc/.wh.motd"),
    folder("srv", 0o700),
    file("srv/.wh..wh..opq"),
    file("n" * 255, "long name"),
    file("a/" * 60 + "deep", "long path"),
    file("empty"),
    file("large", bytes(3_000_000)),
    file("caf\udce9", "not UTF-8"),
    file("tab\tor \\ 'quote", "odd"),
]  # fmt: skip


async def test_everything_that_a_tar_can_say_is_in_the_image(pack: Pack) -> None:
    site = await pack(tar_of(*EVERYTHING))
    seen = listed(site.image)
    assert seen["/"].mode == "drwxr-x---"
    assert seen["bin/su"].mode == "-rwsr-xr-x"
    assert seen["bin/sh"].target == "/bin/su"
    assert seen["bin/long"].target == "t" * 300
    assert (seen["tmp"].mode, seen["tmp"].uid, seen["tmp"].gid) == (
        "drwxrwxrwt",
        65534,
        4_000_000_000,
    )
    assert (seen["dev/null"].mode[0], seen["dev/null"].size) == ("c", "1,3")
    assert (seen["dev/sda"].mode[0], seen["dev/sda"].size) == ("b", "8,16")
    assert seen["run/pipe"].mode == "prw-------"
    assert seen["etc/motd"] == Seen("c---------", 0, 0, "0,0")
    assert seen["etc"].mode == "drwxr-xr-x"
    assert seen["srv"].mode == "drwx------"
    assert "srv/.wh..wh..opq" not in seen
    assert seen["n" * 255].size == "9"
    assert seen["a/" * 60 + "deep"].size == "9"
    assert seen["large"].size == "3000000"
    assert seen["caf\\xe9"].size == "9"


@pytest.mark.skipif(os.geteuid() != 0, reason="reading attributes of root needs root")
async def test_contents_times_links_and_attributes_arrive(pack: Pack, tmp_path: Path) -> None:
    site = await pack(tar_of(*EVERYTHING))
    root = unpacked(site.image, tmp_path / "unpacked")
    for info, content in EVERYTHING:
        if info.isreg() and ".wh." not in info.name:
            found = root / info.name
            assert found.read_bytes() == content
            assert found.stat().st_mtime == info.mtime
    assert (root / "bin/ping").stat().st_ino == (root / "bin/ping6").stat().st_ino
    assert os.getxattr(root / "bin/ping", "security.capability") == CAPABILITY.encode()
    assert os.getxattr(root / "bin/ping", "user.note") == "é".encode()
    assert os.getxattr(root / "srv", "trusted.overlay.opaque") == b"y"


async def test_what_a_tar_says_of_folders_lies_beside_the_image(pack: Pack) -> None:
    site = await pack(tar_of(*EVERYTHING))
    lines = [json.loads(line) for line in site.contents.read_text().splitlines()]
    assert lines[0] == ["folder", "", 0o750, 3, 4, 1_600_000_000]
    assert ["implied", "etc", 0o755, 0, 0, 0] in lines
    assert ["hidden", "etc/motd"] in lines
    assert ["folder", "srv", 0o700, 0, 0, 1_600_000_000] in lines
    assert ["hidden", "srv"] in lines
    assert ["symlink", "bin/sh"] in lines


def compressed(tar: bytes, program: str) -> bytes:
    return subprocess.run((program, "-c"), input=tar, capture_output=True, check=True).stdout


@pytest.mark.parametrize("form", ["plain", "gzip", "members", "zstd"])
async def test_each_compression_gives_the_same_image(
    sites: Sites, tmp_path: Path, form: str
) -> None:
    plain = tar_of(*EVERYTHING)
    half = len(plain) // 2
    forms: dict[str, Callable[[], bytes]] = {
        "plain": lambda: plain,
        "gzip": lambda: compressed(plain, "gzip"),
        "members": lambda: gzip.compress(plain[:half]) + gzip.compress(plain[half:]) + bytes(512),
        "zstd": lambda: compressed(plain, "zstd"),
    }
    digest = f"sha256:{hashlib.sha256(plain).hexdigest()}"
    images: list[bytes] = []
    for name, content in (("plain", plain), (form, forms[form]())):
        tar = tmp_path / f"{name}.blob"
        tar.write_bytes(content)
        site = sites.site(f"{name}-{len(images)}")
        contents = await site.make_image_of_tar(tar, digest=digest)
        assert contents.digest == digest
        images.append(site.image.read_bytes())
    assert images[0] == images[1]


@pytest.mark.parametrize("store_format", ["squashfs", "erofs"])
async def test_the_same_tar_gives_the_same_bytes_in_another_folder_at_another_time(
    sites: Sites, tmp_path: Path, store_format: StoreFormat
) -> None:
    if store_format == "erofs" and not reads_tars():
        pytest.skip("mkfs.erofs is too old to read a tar")
    images = []
    for name, umask, times in (("first", 0o022, (1, 1)), ("much/later", 0o077, None)):
        (tmp_path / "much").mkdir(exist_ok=True)
        before = os.umask(umask)
        try:
            site = sites.site(name, store_format)
            tar = site.workspace / f"layer-{len(name)}.tar"
            tar.write_bytes(tar_of(*EVERYTHING))
            os.utime(tar, times)
            # The clock goes on: an image that had a time of its own would differ.
            await asyncio.to_thread(_next_second)
            await site.make_image_of_tar(tar)
        finally:
            os.umask(before)
        images.append(site.image.read_bytes())
    assert images[0] == images[1]


def _next_second() -> None:
    subprocess.run(("sleep", "1.1"), check=True)


async def test_a_time_in_the_future_is_lowered_and_changes_no_other(
    pack: Pack, tmp_path: Path
) -> None:
    tar = tar_of(file("future", mtime=4_000_000_000), file("new", mtime=THEN), file("old", mtime=7))
    first = await pack(tar)
    await asyncio.to_thread(_next_second)
    assert (await pack(tar)).image.read_bytes() == first.image.read_bytes()
    root = unpacked(first.image, tmp_path / "unpacked")
    times = {path.name: path.stat().st_mtime for path in [root, *root.iterdir()]}
    assert times == {"unpacked": THEN, "future": THEN, "new": THEN, "old": 7}


async def test_an_empty_tar_is_an_empty_layer(pack: Pack) -> None:
    assert set(listed((await pack(tar_of())).image)) == {"/"}


async def test_a_wrong_digest_leaves_nothing(sites: Sites, tmp_path: Path) -> None:
    tar = tmp_path / "layer.tar"
    tar.write_bytes(tar_of(file("a")))
    site = sites.site()
    with pytest.raises(
        BuildFailed, match=r"the archive has the digest sha256:.* and not sha256:00"
    ):
        await site.make_image_of_tar(tar, digest="sha256:" + "0" * 64)
    assert list(site.workspace.iterdir()) == []


async def test_what_is_no_layer_is_refused_with_its_name_and_leaves_nothing(
    sites: Sites, tmp_path: Path
) -> None:
    tar = tmp_path / "layer.tar"
    tar.write_bytes(tar_of(file("good"), file("../evil\x1b[31m")))
    site = sites.site()
    with pytest.raises(BuildFailed, match=r"^\.\./evil: a path with"):
        await site.make_image_of_tar(tar)
    assert list(site.workspace.iterdir()) == []


def test_an_archive_that_changes_before_it_is_packed_becomes_no_image(tmp_path: Path) -> None:
    tar = tmp_path / "layer.tar"
    tar.write_bytes(tar_of(file("a", "1")))
    request = Request(
        str(tar), None, "squashfs", str(tmp_path), str(tmp_path / "image"), str(tmp_path / "c")
    )
    tree, digest = check(tar, None)
    for other in (tar_of(file("a", "2")), b"", tar_of(file("a", "1"))[:513]):
        tar.write_bytes(other)
        with pytest.raises(CannotPackError, match="was changed while it was packed"):
            make_image(request, tree, digest)
        assert not Path(request.image).exists()


async def test_erofs_of_a_tar_needs_newer_tools_and_says_what_to_do(
    sites: Sites, tmp_path: Path
) -> None:
    tar = tmp_path / "layer.tar"
    tar.write_bytes(tar_of(*EVERYTHING))
    site = sites.site(store_format="erofs")
    if reads_tars():
        await site.make_image_of_tar(tar)
        assert site.image.exists()
        return
    with pytest.raises(BuildUnavailable, match="cannot read a tar") as failure:
        await site.make_image_of_tar(tar)
    assert failure.value.kind == "missing-program"
    assert "write squashfs" in failure.value.hint


async def test_a_missing_program_is_said_so(
    sites: Sites, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tar = tmp_path / "layer.tar"
    tar.write_bytes(tar_of(file("a")))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildUnavailable, match="mksquashfs: is missing") as failure:
        await sites.site().make_image_of_tar(tar)
    assert failure.value.kind == "missing-program"
