"""What is written to a disk that firmware boots: kept above one image, never smaller, and never led elsewhere."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import DriverError
from reconciler.model.machine import BootDisk, Machine
from reconciler.vmm.volumes.files import VolumeFiles
from tests.unit.vmm.machines import a_machine

pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is missing")

CLUSTER_BITS_AT, FEATURES_AT, EXTERNAL_DATA = 20, 72, 1 << 2


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Of 16 MiB, with a byte of its own in it."""
    raw, made = tmp_path / "raw", tmp_path / "image"
    with raw.open("wb") as file:
        file.write(b"\x11" * 512)
        file.truncate(16 << 20)
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(made))
    return made


@pytest.fixture
def machine(tmp_path: Path, image: Path) -> Machine:
    overlay = str(tmp_path / "volumes/root-1.qcow2")
    disk = BootDisk(str(image), "bios", overlay)
    return replace(a_machine(tmp_path), kernel="", initrd="", volumes=(), mounts=(), disk=disk)


def run(*words: str) -> bytes:
    return subprocess.run(words, check=True, capture_output=True, timeout=30).stdout


def info(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("qemu-img", "info", "--output=json", str(path)))
    return found


async def prepare(machine: Machine, mib: int, *kept: str) -> Path:
    assert machine.disk is not None
    path = machine.disk.overlay
    await VolumeFiles().prepare(machine, {path: mib}, frozenset(kept))
    return Path(path)


def first_byte(path: Path) -> bytes:
    raw = path.with_name("read")
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(path), str(raw))
    with raw.open("rb") as file:
        return file.read(1)


async def test_it_begins_with_the_image_and_is_as_large_as_the_volume(
    machine: Machine, image: Path
) -> None:
    path = await prepare(machine, 64)
    assert info(path)["virtual-size"] == 64 << 20
    assert info(path)["full-backing-filename"] == str(image)
    assert first_byte(path) == b"\x11"
    assert [entry.name for entry in path.parent.iterdir()] == ["root-1.qcow2", "read"]


async def test_it_is_never_smaller_than_the_image(machine: Machine) -> None:
    assert info(await prepare(machine, 1))["virtual-size"] == 16 << 20


async def test_what_is_there_is_kept_and_grows(machine: Machine) -> None:
    path = await prepare(machine, 16)
    run("qemu-io", "-f", "qcow2", "-c", "write -P 0x22 0 512", str(path))
    await prepare(machine, 32)
    assert info(path)["virtual-size"] == 32 << 20
    await prepare(machine, 16)
    assert info(path)["virtual-size"] == 32 << 20
    assert first_byte(path) == b"\x22"


async def test_one_that_a_good_generation_had_is_not_begun_again(machine: Machine) -> None:
    path = await prepare(machine, 16)
    path.unlink()
    with pytest.raises(DriverError, match=r"volume .*root-1\.qcow2 is gone") as caught:
        await prepare(machine, 16, str(path))
    assert not path.exists()
    command = caught.value.hint.partition("empty one: ")[2]
    run(*command.split())
    await prepare(machine, 32, str(path))
    assert first_byte(path) == b"\x11"


async def test_one_that_a_vmm_led_to_another_file_is_neither_read_nor_grown(
    machine: Machine, tmp_path: Path
) -> None:
    path = await prepare(machine, 16)
    other = tmp_path / "of-the-host"
    other.write_bytes(b"secret")
    with path.open("r+b") as file:
        file.seek(FEATURES_AT)
        file.write(struct.pack(">Q", EXTERNAL_DATA))
    with pytest.raises(DriverError, match=r"has features that ours have not \(0x4\)"):
        await prepare(machine, 32)
    path.unlink()
    path.symlink_to(other)
    with pytest.raises(DriverError):
        await prepare(machine, 32)
    assert other.read_bytes() == b"secret"


async def test_above_an_image_that_rotted_nothing_half_made_is_left(
    machine: Machine, image: Path
) -> None:
    with image.open("r+b") as file:
        file.seek(CLUSTER_BITS_AT)
        file.write(struct.pack(">I", 63))
    with pytest.raises(DriverError, match="could not be made or grown: qemu-img create: status 1"):
        await prepare(machine, 16)
    assert machine.disk is not None
    assert list(Path(machine.disk.overlay).parent.iterdir()) == []
