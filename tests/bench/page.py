"""What it costs the daemon that somebody looks at a page of many VMs: CPU of the loop for each change."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from reconciler.control.page.fleet import row
from reconciler.control.page.live import message
from reconciler.control.page.views import Views
from reconciler.model.names import GroupName
from reconciler.model.status import GroupStatus, HostStatus, VMStatus
from tests.bench.figures import Figure, Scale, median, ms, spread_of
from tests.unit.control.fake_operator import FakeOperator, fleet, vm

TARGET = 5.0
GROUPS = 10


def measure(scale: Scale) -> list[Figure]:
    return asyncio.run(_measure(scale.pick(1000, 200), scale.pick(50, 5)))


async def _measure(size: int, rounds: int) -> list[Figure]:
    calm = many(size)
    warm = await _seconds(rounds, calm, lambda number: one_changed(calm, number))
    all_ = await _seconds(rounds, calm, lambda number: all_changed(calm, number))
    cold = [await _first(calm) for _ in range(rounds)]
    return [
        Figure(
            f"page, one of {size:,} VMs changed", median(ms(warm)), "ms", median(ms(cold)),
            "the same page from nothing", target=TARGET, spread=spread_of(ms(warm), "ms"),
            note="CPU from a new status to the bytes that are sent",
        ),
        Figure(
            f"page, all {size:,} VMs changed", median(ms(all_)), "ms", median(ms(cold)),
            "the same page from nothing", spread=spread_of(ms(all_), "ms"),
        ),
    ]  # fmt: skip


async def _seconds(
    rounds: int, calm: HostStatus, changed: Callable[[int], HostStatus]
) -> list[float]:
    operator = FakeOperator(Path("console.log"), fleet=calm)
    views = Views(operator)
    shown = await views.of({"view": "fleet"})
    found = []
    for number in range(rounds):
        operator.fleet = changed(number)
        began = time.process_time()
        fresh = await views.of({"view": "fleet"})
        sent = message(shown, fresh)
        found.append(time.process_time() - began)
        if not sent:
            raise RuntimeError("nothing was sent")
        shown = fresh
    return found


async def _first(calm: HostStatus) -> float:
    row.cache_clear()
    began = time.process_time()
    await Views(FakeOperator(Path("console.log"), fleet=calm)).of({"view": "fleet"})
    return time.process_time() - began


def many(size: int) -> HostStatus:
    vms = [vm(f"vm-{n:05}", group=GroupName(f"group-{n * GROUPS // size}")) for n in range(size)]
    groups = tuple(
        GroupStatus(GroupName(f"group-{n}"), "idle", size // GROUPS, 0, 1, 0) for n in range(GROUPS)
    )
    return fleet(*vms, groups=groups)


def one_changed(calm: HostStatus, number: int) -> HostStatus:
    """All values are new ones, as after a pass; one is another, on the page that is seen."""
    place = number % 50
    vms = [
        replace(one, why=f"{number}") if n == place else replace(one)
        for n, one in enumerate(calm.vms)
    ]
    return replace(calm, vms=tuple(vms))


def all_changed(calm: HostStatus, number: int) -> HostStatus:
    changed: list[VMStatus] = [replace(one, why=f"{number}") for one in calm.vms]
    return replace(calm, vms=tuple(changed))
