"""The disks of the fake hypervisor, behind their own port."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reconciler.model.machine import Machine
from tests.fakes.hypervisor import FakeHypervisor


@dataclass
class FakeVolumes:
    """The hypervisor's disks, behind the port `Volumes`."""

    hypervisor: FakeHypervisor

    async def prepare(
        self, machine: Machine, sizes: Mapping[str, int], kept: frozenset[str] = frozenset()
    ) -> None:
        await self.hypervisor.make_volumes(sizes, kept)

    async def can_grow(self, machine: Machine, sizes: Mapping[str, int]) -> None:
        await self.hypervisor.can_grow(machine, sizes)

    async def snapshot(self, pairs: Sequence[tuple[str, str]]) -> str:
        return await self.hypervisor.snapshot(pairs)

    async def restore(self, pairs: Sequence[tuple[str, str]]) -> None:
        await self.hypervisor.restore(pairs)

    async def drop(self, paths: Sequence[str]) -> None:
        await self.hypervisor.drop_snapshots(paths)
