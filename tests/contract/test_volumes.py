"""What the engine's interface `Volumes` promises of snapshots: of files, and of the fake alike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from reconciler.engine.guest_interfaces import Volumes
from reconciler.errors import DriverError
from reconciler.vmm.volumes.files import VolumeFiles
from tests.fakes.volumes import FakeVolumes
from tests.world import World


@dataclass
class Disks:
    """Volumes with what they hold, as one byte."""

    volumes: Volumes
    root: str
    held: dict[str, list[int]] | None

    def path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def write(self, name: str, content: int) -> None:
        if self.held is None:
            Path(self.path(name)).write_bytes(bytes([content]))
        else:
            self.held[self.path(name)] = [content]

    def read(self, name: str) -> int | None:
        if self.held is not None:
            return next(iter(self.held.get(self.path(name), [])), None)
        path = Path(self.path(name))
        return path.read_bytes()[0] if path.exists() else None

    async def snapshot(self, *names: str) -> str:
        return await self.volumes.snapshot([(self.path(n), self.path(f"{n}.copy")) for n in names])

    async def restore(self, *names: str) -> None:
        await self.volumes.restore([(self.path(f"{n}.copy"), self.path(n)) for n in names])


@pytest.fixture(params=["files", "fake"])
def disks(request: pytest.FixtureRequest, tmp_path: Path) -> Disks:
    if request.param == "files":
        return Disks(VolumeFiles(), str(tmp_path), None)
    hypervisor = World().hypervisor
    return Disks(FakeVolumes(hypervisor), "/state", hypervisor.disks)


async def test_a_snapshot_brings_back_what_was_there_as_often_as_asked(disks: Disks) -> None:
    disks.write("data", 1)
    await disks.snapshot("data")
    for bad in (2, 3):
        disks.write("data", bad)
        await disks.restore("data")
        assert disks.read("data") == 1


async def test_a_volume_that_never_was_is_neither_saved_nor_put_back(disks: Disks) -> None:
    disks.write("data", 1)
    await disks.snapshot("none", "data")
    disks.write("data", 2)
    await disks.restore("none", "data")
    assert (disks.read("none"), disks.read("data")) == (None, 1)


async def test_where_one_snapshot_is_gone_no_volume_is_replaced(disks: Disks) -> None:
    disks.write("data", 1)
    await disks.snapshot("data")
    disks.write("data", 2)
    disks.write("logs", 2)
    with pytest.raises(DriverError, match=r"snapshot .*logs\.copy is gone"):
        await disks.restore("data", "logs")
    assert (disks.read("data"), disks.read("logs")) == (2, 2)


async def test_dropping_a_snapshot_twice_does_no_harm(disks: Disks) -> None:
    disks.write("data", 1)
    await disks.snapshot("data")
    for _ in range(2):
        await disks.volumes.drop([disks.path("data.copy")])
    assert (disks.read("data.copy"), disks.read("data")) == (None, 1)
