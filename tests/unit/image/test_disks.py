"""Disks that firmware boots: what they become in the store, and which images are refused. By a real qemu-img."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from reconciler.clock import SystemClock
from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.host import layout
from reconciler.image.store import ImageStore
from reconciler.model.image import DiskFormat, DiskImage, KernelSpec
from reconciler.model.layer_kinds.image_layer import ImageSource
from reconciler.source.git.clients import TreeExporter

pytestmark = pytest.mark.skipif(
    shutil.which("qemu-img") is None, reason="qemu-img is missing: apt-get install qemu-utils"
)

NOWHERE = TreeExporter(Path("/nowhere"))
SECRET = b"a secret of the host "
MIB = 1 << 20
CONTENT = b"first".ljust(MIB, b"1") + bytes(3 * MIB) + b"last".ljust(MIB, b"2")


def qemu_img(*words: object) -> None:
    subprocess.run(
        ["qemu-img", *map(str, words)], check=True, stdout=subprocess.DEVNULL, timeout=60
    )


def spec_of(image: Path, form: DiskFormat = "qcow2", sha256: str = "") -> KernelSpec:
    digest = sha256 or hashlib.sha256(image.read_bytes()).hexdigest()
    return KernelSpec.of(str(image), DiskImage(ImageSource(digest, str(image)), form))


def built(tmp_path: Path, spec: KernelSpec) -> Path:
    return layout.disk_image(tmp_path / "state", spec.key)


def content_of(image: Path) -> bytes:
    raw = image.with_name("read")
    qemu_img("convert", "-f", "qcow2", "-O", "raw", image, raw)
    return raw.read_bytes()


def info(image: Path) -> dict[str, object]:
    printed = subprocess.run(
        ["qemu-img", "info", "--output=json", "-f", "qcow2", image],
        check=True, capture_output=True, timeout=60,
    ).stdout  # fmt: skip
    found: dict[str, object] = json.loads(printed)
    return found


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    image = tmp_path / "disk.raw"
    image.write_bytes(CONTENT)
    return image


@pytest.fixture
def host_file(tmp_path: Path) -> Path:
    """What no guest may ever read."""
    file = tmp_path / "shadow"
    file.write_bytes(SECRET * (MIB // len(SECRET)) + bytes(MIB % len(SECRET)))
    return file


def made_of(raw: Path, *options: str) -> Path:
    image = raw.with_suffix(".qcow2")
    qemu_img("convert", "-f", "raw", "-O", "qcow2", *options, raw, image)
    return image


@pytest.mark.parametrize("options", [(), ("-c",), ("-o", "compat=0.10"), ("-o", "extended_l2=on")])
async def test_a_qcow2_becomes_one_of_ours_with_the_same_content(
    store: ImageStore, tmp_path: Path, raw: Path, options: tuple[str, ...]
) -> None:
    spec = spec_of(made_of(raw, *options))
    await store.build_kernel(spec, NOWHERE)
    assert spec.key in store.kernels()
    assert spec.key not in store.announcing()
    assert content_of(built(tmp_path, spec)) == CONTENT


async def test_a_raw_disk_takes_no_more_room_than_it_holds_and_is_there_after_a_restart(
    store: ImageStore, tmp_path: Path, raw: Path
) -> None:
    with raw.open("r+b") as file:
        file.truncate(1 << 30)
    spec = spec_of(raw, "raw")
    made = await store.build_kernel(spec, NOWHERE)
    assert made.size_bytes < 4 * MIB
    assert info(built(tmp_path, spec))["virtual-size"] == 1 << 30
    again = ImageStore(tmp_path / "state", SystemClock())
    await again.open()
    assert again.kernels() == {spec.key}
    assert await again.collect(frozenset({spec.key})) == 0
    assert await again.collect(frozenset()) > 0
    assert not built(tmp_path, spec).exists()
    await again.close()


async def test_the_same_disk_becomes_the_same_bytes_anywhere(
    store: ImageStore, tmp_path: Path, raw: Path
) -> None:
    first, second = spec_of(raw, "raw"), spec_of(made_of(raw, "-c"))
    other = tmp_path / "elsewhere/there.img"
    other.parent.mkdir()
    shutil.copy(raw, other)
    elsewhere = ImageStore(tmp_path / "other", SystemClock())
    await elsewhere.open()
    one = await store.build_kernel(first, NOWHERE)
    two = await store.build_kernel(second, NOWHERE)
    three = await elsewhere.build_kernel(spec_of(other, "raw"), NOWHERE)
    await elsewhere.close()
    assert one.sha256 == two.sha256 == three.sha256
    assert one.key == three.key != two.key


async def refused(store: ImageStore, spec: KernelSpec) -> str:
    with pytest.raises(BuildFailed) as caught:
        await store.build_kernel(spec, NOWHERE)
    assert spec.key not in store.kernels()
    return str(caught.value)


def nothing_leaked(tmp_path: Path) -> bool:
    files = (path for path in (tmp_path / "state").rglob("*") if path.is_file())
    return not any(SECRET in path.read_bytes() for path in files)


async def test_a_backing_file_never_reaches_the_store(
    store: ImageStore, tmp_path: Path, host_file: Path
) -> None:
    image = tmp_path / "disk.qcow2"
    qemu_img("create", "-f", "qcow2", "-F", "raw", "-b", host_file, image)
    assert await refused(store, spec_of(image)) == f"disk {image}: has a backing file"
    assert nothing_leaked(tmp_path)


async def test_a_backing_file_that_is_a_network_is_not_asked(
    store: ImageStore, tmp_path: Path
) -> None:
    image = tmp_path / "disk.qcow2"
    backing = 'json:{"driver":"raw","file":{"driver":"nbd","host":"127.0.0.1","port":"1"}}'
    qemu_img("create", "-f", "qcow2", "-u", "-F", "raw", "-b", backing, image, "1M")
    assert await refused(store, spec_of(image)) == f"disk {image}: has a backing file"


async def test_a_file_with_the_data_is_never_read(
    store: ImageStore, tmp_path: Path, host_file: Path
) -> None:
    image, data = tmp_path / "disk.qcow2", tmp_path / "data"
    qemu_img("create", "-f", "qcow2", "-o", f"data_file={data},data_file_raw=on", image, "1M")
    data.unlink()
    data.symlink_to(host_file)
    assert await refused(store, spec_of(image)) == f"disk {image}: keeps its data in another file"
    assert nothing_leaked(tmp_path)


async def test_a_qcow2_under_the_name_of_a_raw_disk_is_not_taken_for_one(
    store: ImageStore, tmp_path: Path, host_file: Path
) -> None:
    image = tmp_path / "disk.raw"
    qemu_img("create", "-f", "qcow2", "-F", "raw", "-b", host_file, image)
    assert await refused(store, spec_of(image, "raw")) == f"disk {image}: is a qcow2 image"
    assert nothing_leaked(tmp_path)


async def test_another_format_is_not_guessed(store: ImageStore, tmp_path: Path, raw: Path) -> None:
    image = tmp_path / "disk.vmdk"
    qemu_img("convert", "-f", "raw", "-O", "vmdk", raw, image)
    assert await refused(store, spec_of(image)) == f"disk {image}: is no qcow2 image"


async def test_a_disk_larger_than_any_guest_may_fill_is_refused(
    store: ImageStore, tmp_path: Path
) -> None:
    image = tmp_path / "disk.qcow2"
    qemu_img("create", "-f", "qcow2", image, "64T")
    assert f"its disk has {64 << 40} bytes" in await refused(store, spec_of(image))


async def test_an_encrypted_disk_is_refused(store: ImageStore, tmp_path: Path) -> None:
    image = tmp_path / "disk.qcow2"
    qemu_img("create", "-f", "qcow2", image, "1M")
    with image.open("r+b") as file:  # qemu-img makes none with LUKS while the host has much to do
        file.seek(32)
        file.write((2).to_bytes(4, "big"))
    assert await refused(store, spec_of(image)) == f"disk {image}: is encrypted"


async def test_a_disk_whose_tables_lead_nowhere_is_refused_and_says_what_to_try(
    store: ImageStore, raw: Path
) -> None:
    image = made_of(raw)
    with image.open("r+b") as file:
        file.seek(40)  # where its first table is
        file.write(b"\1" * 8)
    with pytest.raises(BuildFailed, match="qemu-img") as caught:
        await store.build_kernel(spec_of(image), NOWHERE)
    assert "qemu-img check" in caught.value.hint


async def test_a_file_that_is_not_the_manifests_is_not_converted_until_it_is(
    store: ImageStore, raw: Path
) -> None:
    right = hashlib.sha256(CONTENT).hexdigest()
    raw.write_bytes(b"another".ljust(MIB, b"\0"))
    with pytest.raises(BuildUnavailable, match="another sha256 than the manifest says") as caught:
        await store.build_kernel(spec_of(raw, "raw", right), NOWHERE)
    assert caught.value.kind == "changed-file"
    raw.write_bytes(CONTENT)
    spec = spec_of(raw, "raw", right)
    assert (await store.build_kernel(spec, NOWHERE)).key == spec.key


async def test_a_link_on_the_way_to_the_file_is_not_followed(
    store: ImageStore, tmp_path: Path, raw: Path
) -> None:
    folder = tmp_path / "folder"
    folder.symlink_to(tmp_path)
    for path in (folder / raw.name, tmp_path / "gone.raw"):
        digest = hashlib.sha256(CONTENT).hexdigest()
        with pytest.raises(BuildUnavailable) as caught:
            await store.build_kernel(spec_of(path, "raw", digest), NOWHERE)
        assert "links are not followed" in caught.value.hint


async def test_a_host_without_qemu_img_says_what_to_install(
    store: ImageStore, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BuildUnavailable) as caught:
        await store.build_kernel(spec_of(raw, "raw"), NOWHERE)
    assert caught.value.kind == "missing-program"
    assert "apt-get install qemu-utils" in caught.value.hint
