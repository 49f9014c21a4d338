"""Volumes: made once, and never touched again."""

from __future__ import annotations

import asyncio
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.config import QemuConfig
from reconciler.errors import DriverError
from reconciler.model.machine import Disk, Machine, Mount
from reconciler.vmm.qemu.driver import QemuDriver
from tests.unit.vmm.machines import a_machine

MIB = 1024 * 1024


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    disk = Disk(str(tmp_path / "volumes/data.raw"), "vol-data", read_only=False)
    return replace(
        a_machine(tmp_path), volumes=(disk,), mounts=(Mount("vol-data", "/data", "ext4"),)
    )


def fsck(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["e2fsck", "-fn", path], capture_output=True, text=True, check=False, timeout=30
    )


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def a_file(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


async def make(machine: Machine, mib: int = 64) -> Path:
    path = machine.volumes[0].path
    await QemuDriver(QemuConfig()).volumes(machine, {path: mib})
    return Path(path)


async def test_a_missing_volume_is_created_with_a_clean_filesystem_of_its_size(
    machine: Machine,
) -> None:
    path = await make(machine)
    assert path.stat().st_size == 64 * MIB
    checked = fsck(path)
    assert checked.returncode == 0, checked.stdout


async def test_a_large_volume_takes_no_room_before_it_is_used(machine: Machine) -> None:
    path = await make(machine, 50 * 1024)
    assert path.stat().st_blocks * 512 < 16 * MIB


async def test_a_volume_that_exists_is_left_alone_whatever_size_is_asked_for(
    machine: Machine,
) -> None:
    path = a_file(Path(machine.volumes[0].path), "somebody's data")
    before = path.stat()
    await make(machine, 128)
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


async def test_two_who_create_the_same_volume_make_one(machine: Machine) -> None:
    paths = await asyncio.gather(make(machine), make(machine), make(machine))
    assert names_in(paths[0].parent) == ["data.raw"]


async def test_a_volume_that_cannot_be_formatted_leaves_nothing_behind(machine: Machine) -> None:
    with pytest.raises(DriverError, match=r"mkfs\.ext4 failed"):
        await make(machine, 0)
    assert names_in(Path(machine.volumes[0].path).parent) == []


async def test_a_volume_without_a_size_is_refused(machine: Machine) -> None:
    with pytest.raises(DriverError, match="has no size"):
        await QemuDriver(QemuConfig()).volumes(machine, {})


async def test_a_folder_that_cannot_be_made_is_an_error_with_a_hint(
    machine: Machine, tmp_path: Path
) -> None:
    (tmp_path / "volumes").write_text("a file in its place")
    with pytest.raises(DriverError) as caught:
        await make(machine)
    assert caught.value.hint
