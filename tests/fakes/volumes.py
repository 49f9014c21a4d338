"""The disks of the fake hypervisor, behind their own port."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.fakes.hypervisor import FakeHypervisor


@dataclass
class FakeVolumes:
    """The hypervisor's disks, behind the port `Volumes`."""

    hypervisor: FakeHypervisor

    async def snapshot(self, pairs: Sequence[tuple[str, str]]) -> str:
        return await self.hypervisor.snapshot(pairs)

    async def restore(self, pairs: Sequence[tuple[str, str]]) -> None:
        await self.hypervisor.restore(pairs)

    async def drop(self, paths: Sequence[str]) -> None:
        await self.hypervisor.drop_snapshots(paths)
