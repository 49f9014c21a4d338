"""A scrape in which every VM has all of its series: what it costs, and how that grows with the VMs."""

from __future__ import annotations

import os
import time
from dataclasses import replace

from reconciler.metrics import Metrics
from reconciler.model.names import VMName
from reconciler.model.status import HostStatus
from tests.bench.figures import Figure, Scale, median, ms, spread_of
from tests.bench.manifests import name_of
from tests.unit.control.fake_operator import vm
from tests.unit.dashboards.exposed import EVERYTHING, start_of, whole_fleet

TARGET_AT = 1000
TARGET = 100.0
LINEAR = 1.10
REASONS = tuple((reason, 3) for reason in ("crash", "manual", "rollback", "rollout"))


def measure(scale: Scale) -> list[Figure]:
    small, large = (50, 100) if scale.quick else (1000, 2000)
    hosts = {size: host(size) for size in (small, large)}
    taken: dict[int, list[float]] = {size: [] for size in hosts}
    for _ in range(scale.pick(30, 3)):  # in turns, so that the machine's load meets both alike
        for size, metrics in hosts.items():
            began = time.process_time()
            metrics.render()
            taken[size].append(time.process_time() - began)
    text = hosts[small].render().decode()
    series = sum(not line.startswith("#") for line in text.splitlines())
    few, many = ms(taken[small]), ms(taken[large])
    return [
        Figure(
            f"scrape of {small:,} VMs, all series", median(few), "ms", median(many) / 2,
            f"half of one of {large:,} VMs", target=TARGET if small == TARGET_AT else None,
            spread=spread_of(few, "ms"),
            note=f"CPU of rendering in memory: {series:,} series, {len(text) / 1024:,.0f} KiB",
        ),
        Figure(
            f"scrape of {large:,} VMs, least", min(many), "ms", 2 * min(few),
            f"2 x the least of {small:,} VMs", target_ratio=LINEAR, spread=spread_of(many, "ms"),
            note="the least of each, as whatever else the machine does only adds",
        ),
    ]  # fmt: skip


def host(size: int) -> Metrics:
    """This process stands for each guest, so that all that is read from /proc is read."""
    started = start_of(os.getpid())
    guests = tuple(
        replace(
            vm(name_of(n)), name=VMName(name_of(n)), pid=os.getpid(), started_wall=started,
            restarts=REASONS,
        )
        for n in range(size)
    )  # fmt: skip
    fleet: HostStatus = replace(whole_fleet(), vms=guests)
    metrics = Metrics(lambda: fleet, version="bench", started_wall=started, sinks=("ops",))
    metrics.figures = lambda _: EVERYTHING
    return metrics
