"""Volumes: made once, and never touched again."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.errors import DriverError
from reconciler.model.machine import Disk, Machine, Mount
from reconciler.vmm import programs
from reconciler.vmm.volumes.files import VolumeFiles
from tests.unit.vmm.machines import a_machine
from tests.wait import wait_until

pytestmark = pytest.mark.shows(fault=76)

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
    await VolumeFiles().prepare(machine, {path: mib})
    return Path(path)


async def test_a_missing_volume_is_created_with_a_clean_filesystem_of_its_size(
    machine: Machine,
) -> None:
    path = await make(machine)
    assert path.stat().st_size == 64 * MIB
    checked = fsck(path)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.shows(fault=94)
async def test_a_volume_that_held_data_is_not_begun_again_when_it_is_gone(machine: Machine) -> None:
    path = await make(machine)
    driver, kept = VolumeFiles(), frozenset({str(path)})
    await driver.prepare(machine, {str(path): 64}, kept)
    elsewhere = path.rename(path.with_name("elsewhere"))
    with pytest.raises(DriverError, match="is gone") as refused:
        await driver.prepare(machine, {str(path): 64}, kept)
    assert (refused.value.kind, path.exists()) == ("volume", False)
    elsewhere.rename(path)
    await driver.prepare(machine, {str(path): 64}, kept)


async def test_a_large_volume_takes_no_room_before_it_is_used(machine: Machine) -> None:
    path = await make(machine, 50 * 1024)
    assert path.stat().st_blocks * 512 < 16 * MIB


async def test_what_is_no_file_system_of_ours_is_left_alone_whatever_size_is_asked_for(
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
        await VolumeFiles().prepare(machine, {})


async def test_a_folder_that_cannot_be_made_is_an_error_with_a_hint(
    machine: Machine, tmp_path: Path
) -> None:
    (tmp_path / "volumes").write_text("a file in its place")
    with pytest.raises(DriverError) as caught:
        await make(machine)
    assert caught.value.hint


def debugfs(path: Path, *requests: str) -> str:
    """The file system's content, without mounting it."""
    done = subprocess.run(
        ["debugfs", "-w", "-f", "-", path], input="\n".join(requests), capture_output=True,
        text=True, check=True, timeout=30,
    )  # fmt: skip
    return done.stdout


def filesystem_mib(path: Path) -> int:
    told = subprocess.run(
        ["dumpe2fs", "-h", path], capture_output=True, text=True, check=True, timeout=30
    ).stdout
    of = dict(line.split(":", 1) for line in told.splitlines() if ":" in line)
    return int(of["Block count"]) * int(of["Block size"]) // MIB


async def test_a_volume_that_is_too_small_grows_with_its_file_system_and_keeps_its_data(
    machine: Machine, tmp_path: Path
) -> None:
    path = await make(machine)
    debugfs(path, f"write {a_file(tmp_path / 'record', 'acknowledged')} record")
    await make(machine, 256)
    assert path.stat().st_size == 256 * MIB
    assert filesystem_mib(path) == 256
    assert "acknowledged" in debugfs(path, "cat record")
    assert fsck(path).returncode == 0
    assert names_in(path.parent) == ["data.raw"]


async def test_a_volume_is_never_made_smaller(machine: Machine) -> None:
    path = await make(machine, 128)
    before = path.stat()
    await make(machine, 64)
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert filesystem_mib(path) == 128


@pytest.mark.parametrize("cut", ["before the file grew", "after the file grew"])
async def test_a_growth_that_was_cut_short_is_finished_by_the_next_start(
    machine: Machine, cut: str
) -> None:
    path = await make(machine)
    (path.parent / ".data.raw.growing").touch()
    if cut == "after the file grew":
        os.truncate(path, 256 * MIB)
    await make(machine, 256)
    assert filesystem_mib(path) == 256
    assert fsck(path).returncode == 0
    assert names_in(path.parent) == ["data.raw"]


async def test_a_volume_on_which_a_guest_may_run_does_not_grow(machine: Machine) -> None:
    path = await make(machine)
    with (path.parent.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DriverError, match="holds its VM's lock"):
            await make(machine, 256)
    assert path.stat().st_size == 64 * MIB
    await make(machine, 256)
    assert filesystem_mib(path) == 256


async def test_a_file_system_that_needs_a_person_does_not_grow_and_is_not_touched(
    machine: Machine,
) -> None:
    path = await make(machine)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * 4096 * 40)  # group descriptors, bitmaps and inodes
    size = path.stat().st_size
    with pytest.raises(DriverError) as failure:
        await make(machine, 256)
    assert failure.value.kind == "growth"
    assert "e2fsck" in str(failure.value)
    assert path.stat().st_size == size
    assert names_in(path.parent) == ["data.raw"]


FEW_MIB = [2, 3, 4, 5, 6, 8, 16, 64]
TABLE = [(a, b) for a in FEW_MIB for b in (a + 1, a * 2, a * 1100)]


@pytest.mark.parametrize(("small", "large"), [*TABLE, (2, 32 * 1024), (256, 1024 * 1024)])
async def test_a_volume_grows_however_much_larger_it_is_to_be(
    machine: Machine, tmp_path: Path, small: int, large: int
) -> None:
    path = await make(machine, small)
    debugfs(path, f"write {a_file(tmp_path / 'record', 'acknowledged')} record")
    if large < 1024 * 1024:  # it takes its time
        await VolumeFiles().can_grow(machine, {str(path): large})
    await make(machine, large)
    assert filesystem_mib(path) == large
    assert "acknowledged" in debugfs(path, "cat record")
    assert fsck(path).returncode == 0
    assert names_in(path.parent) == ["data.raw"]


def with_a_resize_inode(path: Path, mib: int) -> None:
    """As volumes were made that are there already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(mib * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", path], check=True, timeout=30)


@pytest.mark.parametrize(("small", "large"), [(2, 4096), (4, 4400), (6, 7000), (256, 1024 * 1024)])
async def test_what_resize2fs_cannot_do_is_known_while_the_guest_lives_and_harms_nothing(
    machine: Machine, tmp_path: Path, small: int, large: int
) -> None:
    path = Path(machine.volumes[0].path)
    with_a_resize_inode(path, small)
    debugfs(path, f"write {a_file(tmp_path / 'record', 'acknowledged')} record")
    driver = VolumeFiles()
    before = path.read_bytes()
    with pytest.raises(DriverError, match="further than its file system can") as failure:
        await driver.can_grow(machine, {str(path): large})
    assert failure.value.kind == "growth"
    assert path.read_bytes() == before, "a guest has it open"
    with pytest.raises(DriverError, match="further than its file system can"):
        await make(machine, large)
    await make(machine, small)
    assert "acknowledged" in debugfs(path, "cat record")
    assert fsck(path).returncode == 0
    assert path.stat().st_size == small * MIB
    assert names_in(path.parent) == ["data.raw"]


def killed_in_the_middle(path: Path, undo: Path) -> bool:
    """False when it was done before the kill reached it."""
    resizing = subprocess.Popen(
        ["resize2fs", "-z", undo, path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_until(lambda: undo.exists() and undo.stat().st_size > MIB, 30.0, "it overwrites something")
    resizing.kill()
    return resizing.wait() == -signal.SIGKILL


@pytest.mark.parametrize("again", [64, 256])
async def test_a_growth_that_is_killed_in_the_middle_is_undone_before_the_next_start(
    machine: Machine, tmp_path: Path, again: int
) -> None:
    for _ in range(20):
        path = await make(machine)
        debugfs(path, f"write {a_file(tmp_path / 'record', 'acknowledged')} record")
        mark, undo = path.parent / ".data.raw.growing", path.parent / ".data.raw.undo"
        mark.touch()
        os.truncate(path, 1024 * 1024 * MIB)
        if killed_in_the_middle(path, undo):
            break
        for left in (path, mark, undo):
            left.unlink(missing_ok=True)
    else:
        pytest.fail("resize2fs was done before each of 20 kills")
    await make(machine, again)
    assert filesystem_mib(path) == again
    assert "acknowledged" in debugfs(path, "cat record")
    assert fsck(path).returncode == 0
    assert names_in(path.parent) == ["data.raw"]


async def test_a_volume_that_the_host_keeps_from_growing_is_as_it_was_and_not_blamed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = await make(machine)
    full = tmp_path / "bin/resize2fs"
    a_file(
        full,
        '#!/bin/sh\ncase "$*" in *metadata*) exec /usr/sbin/resize2fs "$@";; esac\n'
        "dd if=/dev/urandom of=${0%/bin*}/volumes/data.raw bs=4k seek=2000 count=9 conv=notrunc"
        " 2>/dev/null\necho 'No space left on device'; exit 1\n",
    ).chmod(0o755)
    monkeypatch.setattr(programs, "PATH", f"{full.parent}:{programs.PATH}")
    with pytest.raises(DriverError, match="No space left") as failure:
        await make(machine, 256)
    assert failure.value.kind == "volume"
    monkeypatch.undo()
    await make(machine)
    assert filesystem_mib(path) == 64
    assert path.stat().st_size == 64 * MIB
    assert fsck(path).returncode == 0
    assert names_in(path.parent) == ["data.raw"]
