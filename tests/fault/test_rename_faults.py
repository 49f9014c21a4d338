"""A rename on the real ledger and real folders, with a death before and after each of its writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from reconciler.engine.reconcile_pass import Reconciler
from reconciler.ledger.sqlite import SqliteLedger, open_ledger
from reconciler.model.change import Change
from reconciler.model.names import VMName
from reconciler.model.policy import Policy
from reconciler.model.record import Record
from reconciler.vmm.generation_folders import GenerationFolders
from tests.fakes import Crash
from tests.fakes.clock import FakeClock
from tests.world import World, state, vm

DATA = b"acknowledged"


class Folders(GenerationFolders):
    """Real folders; the daemon dies before or after the move when told so."""

    dies: Literal["before", "after", "never"] = "never"
    disks: dict[str, list[int]]
    """What the guests in memory wrote, by paths below these folders."""

    async def _blocking(self, work: Callable[[], None]) -> None:
        work()  # in virtual time nobody waits for a thread

    async def move(self, old: VMName, new: VMName) -> None:
        if self.dies == "before":
            raise Crash("move")
        await super().move(old, new)
        homes = str(self.folder(old)), str(self.folder(new))
        for path in [path for path in self.disks if path.startswith(f"{homes[0]}/")]:
            self.disks[path.replace(*homes)] = self.disks.pop(path)
        if self.dies == "after":
            raise Crash("move")


class OnDisk(World):
    """The real planner and engine with guests in memory, and ledger and folders on the disk."""

    def __init__(self, root: Path, ledger: SqliteLedger) -> None:
        self.folders = Folders(root / "vms")
        super().__init__(Policy(str(root), memory_reserve_mib=0, disk_reserve_mib=0), ledger)
        self.folders.disks = self.hypervisor.disks

    def _boot(self) -> None:
        super()._boot()
        self.adapters = replace(self.adapters, generations=self.folders)
        self.reconciler = Reconciler(self.adapters, self.policy, self.workers)


def ledger_of(root: Path) -> SqliteLedger:
    return open_ledger(root / "ledger.db", FakeClock()).ledger


def vms(ledger: SqliteLedger) -> list[str]:
    return sorted(ledger.record().vms)


async def until_moving(world: OnDisk) -> None:
    """Passes until the move was tried."""
    for _ in range(200):
        await world.step()
        record: Record = world.durable.record()
        if any(one.moving for one in record.vms.values()):
            return
        world.clock.advance(0.5)
    raise AssertionError("it never moved")


@pytest.mark.parametrize("dies", ["before", "after", "never"])
async def test_a_rename_keeps_volumes_and_generations_over_a_death_and_a_new_daemon(
    tmp_path: Path, dies: Literal["before", "after", "never"]
) -> None:
    ledger = ledger_of(tmp_path)
    world = OnDisk(tmp_path, ledger)
    await world.push(state(vm("web", snapshot=True)))
    await world.settle()
    volume = tmp_path / "vms/web/volumes/data.raw"
    volume.write_bytes(DATA)
    world.folders.dies = dies
    await world.push(state(vm("shop", snapshot=True, moved_from="web")))
    await until_moving(world)
    await ledger.close()
    opened = ledger_of(tmp_path)
    assert vms(opened) == ["web"], "the ledger learns of it after the folder moved"
    assert volume.exists() == (dies == "before")
    world.durable, world.folders.dies = opened, "never"
    world.workers._tasks.clear()
    await world.restart()
    await world.settle()
    assert vms(opened) == ["shop"]
    assert not volume.parent.parent.exists()
    assert (tmp_path / "vms/shop/volumes/data.raw").read_bytes() == DATA
    assert [g.number for g in world.record("shop").generations] == [1, 2]
    found = await world.folders.read(VMName("shop"), world.record("shop").generations[1].number)
    assert found is not None
    assert found.vm == "shop"
    await opened.close()
    again = ledger_of(tmp_path)
    assert again.record().vms[VMName("shop")] == world.record("shop")
    await again.close()


async def test_a_ledger_that_cannot_be_written_after_the_move_is_caught_up_with(
    tmp_path: Path,
) -> None:
    ledger = ledger_of(tmp_path)
    world = OnDisk(tmp_path, ledger)
    await world.push(state(vm("web", snapshot=True)))
    await world.settle()
    (tmp_path / "vms/web/volumes/data.raw").write_bytes(DATA)
    await world.push(state(vm("shop", snapshot=True, moved_from="web")))
    await until_moving(world)
    writes: list[tuple[Change, ...]] = []
    write = ledger.write

    async def failing(changes: tuple[Change, ...]) -> Record:
        writes.append(tuple(changes))
        (tmp_path / "ledger.db").rename(tmp_path / "away.db")  # the disk is gone for a moment
        try:
            return await write(changes)
        finally:
            (tmp_path / "away.db").rename(tmp_path / "ledger.db")

    ledger.write = failing  # type: ignore[method-assign, assignment]  # one port's method, for a while
    for _ in range(3):
        await world.step()
        world.clock.advance(5.0)
    assert writes
    assert vms(ledger) == ["web"]
    ledger.write = write  # type: ignore[method-assign]
    await world.settle()
    assert vms(ledger) == ["shop"]
    assert (tmp_path / "vms/shop/volumes/data.raw").read_bytes() == DATA
    await ledger.close()
