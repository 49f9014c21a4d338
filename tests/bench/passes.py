"""What a pass with nothing to do costs, by the number of VMs: CPU of the real engine over fakes."""

from __future__ import annotations

import asyncio
import cProfile
import gc
import time

from reconciler.daemon import COLLECT_AFTER
from reconciler.model.policy import Policy
from tests.bench.figures import Figure, Scale, median, ms, spread_of
from tests.bench.manifests import name_of
from tests.world import World, state, vm

TARGET_AT = 1000
TARGET = 50.0
LINEAR = 1.10
"""A tenth for noise: growing faster than the VMs would show as far more."""


def measure(scale: Scale) -> list[Figure]:
    gc.set_threshold(*COLLECT_AFTER)  # as the daemon does
    sizes = (10, 100, 200) if scale.quick else (100, 1000, 2000)
    worlds = {size: asyncio.run(_settled(size)) for size in sizes}
    seconds: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(scale.pick(30, 5)):  # in turns, so that the machine's load meets all alike
        for size, world in worlds.items():
            asyncio.run(_pass(world))  # as its caches were left by another world, not counted
            seconds[size].append(asyncio.run(_pass(world)))
    small, middle, large = sizes
    calls = {size: asyncio.run(_calls(world)) for size, world in worlds.items()}
    return [_cost(seconds, middle, small), _growth(seconds, calls, large, middle)]


def _cost(seconds: dict[int, list[float]], size: int, smaller: int) -> Figure:
    times, values = size // smaller, ms(seconds[size])
    return Figure(
        f"idle pass, {size:,} VMs", median(values), "ms", times * median(ms(seconds[smaller])),
        f"{times} x a pass of {smaller:,} VMs", target=TARGET if size == TARGET_AT else None,
        spread=spread_of(values, "ms"),
        note="CPU of the process; every guest was probed anew since the pass before",
        details={"median of the smaller, ms": round(median(ms(seconds[smaller])), 2)},
    )  # fmt: skip


def _growth(
    seconds: dict[int, list[float]], calls: dict[int, int], size: int, smaller: int
) -> Figure:
    times, values = size // smaller, ms(seconds[size])
    return Figure(
        f"idle pass, {size:,} VMs, least", min(values), "ms", times * min(ms(seconds[smaller])),
        f"{times} x the least of {smaller:,} VMs", target_ratio=LINEAR,
        spread=spread_of(values, "ms"),
        note="the least of each, as whatever else the machine does only adds",
        details={
            "ratio of medians": round(median(values) / median(ms(seconds[smaller])) / times, 2),
            **{f"calls a VM at {n:,} VMs": round(count / n, 2) for n, count in calls.items()},
        },
    )  # fmt: skip


async def _settled(size: int) -> World:
    world = World(Policy("/state", memory_reserve_mib=0, disk_reserve_mib=0, max_builds=10 * size))
    await world.push(state(*(vm(name_of(n), min_healthy=0.0) for n in range(size))))
    await world.settle()
    return world


async def _pass(world: World) -> float:
    """CPU seconds of one pass."""
    world.clock.advance(1.0)
    world.hypervisor.probe()
    writes = world.ledger.writes
    began = time.process_time()
    await world.reconciler.run_pass()
    taken = time.process_time() - began
    passed = world.reconciler.passed
    if passed is None or not passed.plan.idle or world.ledger.writes != writes:
        raise RuntimeError("there was something to do")
    return taken


async def _calls(world: World) -> int:
    """Calls of functions in one pass: what it does, whatever the machine's caches make of it."""
    profile = cProfile.Profile()
    profile.enable()
    await _pass(world)
    profile.disable()
    return sum(entry.callcount for entry in profile.getstats())
