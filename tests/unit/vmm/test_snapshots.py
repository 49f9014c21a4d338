"""Copies of volumes on a real filesystem."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from reconciler.errors import DriverError
from reconciler.vmm.volumes.files import VolumeFiles

MIB = 1024 * 1024


def sparse(path: Path) -> bytes:
    """A volume with data at both ends of a hole; returns what it holds."""
    content = b"first" + bytes(8 * MIB) + b"last"
    with path.open("wb") as file:
        file.write(b"first")
        file.seek(5 + 8 * MIB)
        file.write(b"last")
    return content


async def test_a_snapshot_is_equal_and_keeps_holes_and_a_restore_brings_it_back(
    tmp_path: Path,
) -> None:
    volume, copy = tmp_path / "volumes" / "data.raw", tmp_path / "snapshots" / "data.raw"
    volume.parent.mkdir()
    content = sparse(volume)
    method = await VolumeFiles().snapshot([(str(volume), str(copy))])
    assert method in ("reflink", "copy")
    assert copy.read_bytes() == content
    assert copy.stat().st_blocks * 512 < 2 * MIB
    volume.write_bytes(b"written by a bad generation")
    await VolumeFiles().restore([(str(copy), str(volume))])
    assert volume.read_bytes() == content
    assert copy.exists(), "kept until the way back is behind us"


async def test_a_volume_that_does_not_exist_yet_has_no_snapshot(tmp_path: Path) -> None:
    copy = tmp_path / "data.raw"
    assert await VolumeFiles().snapshot([(str(tmp_path / "none"), str(copy))]) == "nothing"
    assert not copy.exists()


async def test_a_copy_that_does_not_fit_leaves_the_former_one_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume, copy = tmp_path / "data.raw", tmp_path / "copy.raw"
    sparse(volume)
    copy.write_bytes(b"former")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DriverError, match="No space left"):
        await VolumeFiles().snapshot([(str(volume), str(copy))])
    assert copy.read_bytes() == b"former"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy.raw", "data.raw"]


async def test_a_link_in_place_of_a_volume_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("host")
    (tmp_path / "data.raw").symlink_to(tmp_path / "secret")
    with pytest.raises(DriverError):
        await VolumeFiles().snapshot([(str(tmp_path / "data.raw"), str(tmp_path / "copy"))])
    assert not (tmp_path / "copy").exists()


async def test_dropping_twice_does_no_harm(tmp_path: Path) -> None:
    copy = tmp_path / "copy.raw"
    copy.write_bytes(b"x")
    await VolumeFiles().drop([str(copy)])
    await VolumeFiles().drop([str(copy)])
    assert not copy.exists()
