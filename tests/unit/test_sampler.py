"""Figures that only a VMM has: whom it asks, how often, and whom it leaves in peace."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from reconciler.errors import DriverError
from reconciler.metrics import Metrics
from reconciler.metrics.sampler import LOOK, PEACE, ROUND, Sampler
from reconciler.model.guest_reports import DiskOperations, GuestFigures, GuestMemory
from reconciler.model.status import VMStatus
from reconciler.vmm.qemu.stats import memory, total
from tests.fakes.clock import FakeClock
from tests.unit.test_metrics import STARTED, fleet, vm


class Host:
    def __init__(self, *vms: VMStatus) -> None:
        self.now = fleet(*vms)
        self.clock = FakeClock()
        self.asked: list[str] = []
        self.dumb: set[str] = set()
        self.sampler = Sampler(lambda: self.now, self.ask, self.clock)

    async def ask(self, vm: VMStatus, _: float) -> GuestFigures:
        self.asked.append(vm.name)
        if vm.name in self.dumb:
            raise DriverError("no answer", kind="timeout")
        return GuestFigures(DiskOperations(len(self.asked), 7))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.sampler.run())
        try:
            await self.after(0)
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def after(self, seconds: float) -> None:
        """So much time later, in steps that no pause is longer than."""
        for _ in range(int(seconds) + 1):
            for _ in range(20):
                await asyncio.sleep(0)
            self.clock.advance(1.0)


def a_guest(name: str, **changes: Any) -> VMStatus:
    return vm(name, instance=f"i-{name}", **changes)


async def test_each_guest_is_asked_once_a_round() -> None:
    host = Host(a_guest("web"), a_guest("db"))
    async with host.running():
        await host.after(2)
        assert host.asked == ["web", "db"]
        await host.after(ROUND + 2 * LOOK)
        assert host.asked == ["web", "db"] * 2
    assert host.sampler.figures(host.now.vms[0]) == GuestFigures(DiskOperations(3, 7))


async def test_only_guests_that_run_and_are_well_are_asked() -> None:
    host = Host(
        a_guest("ill", healthy=False), a_guest("stops", state="stopping"), vm("none", "stopped")
    )
    async with host.running():
        await host.after(3 * ROUND)
    assert host.asked == []


async def test_one_that_does_not_answer_is_left_in_peace_and_the_next_is_asked() -> None:
    host = Host(a_guest("dumb"), a_guest("web"))
    host.dumb = {"dumb"}
    async with host.running():
        await host.after(PEACE - ROUND)
        assert host.asked.count("dumb") == 1
        assert host.asked.count("web") >= 5
        host.dumb = set()
        await host.after(3 * ROUND)
    assert host.asked.count("dumb") >= 2
    assert host.sampler.figures(host.now.vms[0]) is not None


async def test_the_next_guest_of_a_vm_has_no_figures_of_the_one_before() -> None:
    host = Host(a_guest("web"))
    metrics = Metrics(lambda: host.now, version="1.2.3", started_wall=STARTED)
    metrics.figures = host.sampler.figures
    async with host.running():
        await host.after(1)
        assert b'vm_disk_operations_total{vm="web",op="write"} 7' in metrics.render()
        host.now = fleet(replace(host.now.vms[0], instance="i-next", healthy=False))
        assert b"vm_disk_operations_total{" not in metrics.render()
        await host.after(ROUND)
    assert host.sampler._known == {}


def test_the_figures_of_all_disks_are_one() -> None:
    disks = [{"stats": {"rd_operations": 3, "wr_operations": n, "rd_bytes": 1}} for n in (1, 4)]
    assert total(disks) == DiskOperations(6, 5)


@pytest.mark.parametrize("answer", [None, [{}], [{"stats": {"rd_operations": "many"}}], 7])
def test_what_is_no_answer_is_an_error_of_the_driver(answer: object) -> None:
    with pytest.raises(DriverError, match="no figures"):
        total(answer)


BALLOON = {"actual": 256 << 20}


def stats(last_update: int = 1_790_000_000, **told: int) -> dict[str, object]:
    return {
        "stats": {f"stat-{name}-memory": n for name, n in told.items()},
        "last-update": last_update,
    }


@pytest.mark.parametrize(
    ("said", "available"),
    [
        (stats(available=99, free=7), 99),
        (stats(available=0), 0),
        (stats(0, available=99), None),  # never asked: the numbers are none
        (stats(available=2**64 - 1), None),  # QEMU's word for what the guest did not say
        (stats(available=-1), None),
        (stats(), None),
    ],
)
def test_of_the_guests_memory_is_told_what_it_said_and_nothing_else(
    said: object, available: int | None
) -> None:
    assert memory(BALLOON, said) == GuestMemory(256 << 20, available)


@pytest.mark.parametrize("said", [None, {}, {"stats": 7, "last-update": 1}, {"last-update": 1}])
def test_nonsense_about_memory_is_an_error_of_the_driver(said: object) -> None:
    with pytest.raises(DriverError, match="no figures of memory"):
        memory(BALLOON, said)
