"""A commit that changes one file of very many: from the mirror to the plan, with warm caches."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from demo.repository import Repository
from reconciler.clock import SystemClock
from reconciler.daemon import COLLECT_AFTER
from reconciler.model.change import apply
from reconciler.model.desired import DesiredState
from reconciler.model.health import ProbeCounts
from reconciler.model.names import GenerationNumber, InstanceId, Revision
from reconciler.model.observed import Guest, HostFacts, Observed, Process
from reconciler.model.plan import Plan
from reconciler.model.policy import Policy
from reconciler.model.record import (
    Generation,
    Record,
    SourceRecord,
    Start,
    VMRecord,
)
from reconciler.now import Deadline, Now
from reconciler.planning.lint.laws import check
from reconciler.planning.planner import plan
from reconciler.source.git.source import GitSource
from tests.bench.figures import Figure, Scale, median, ms, spread_of
from tests.bench.manifests import SMALLEST, declare, fill
from tests.bench.rig import config_of

TARGETS = {1000: 100.0, 10_000: 300.0}
NOW = Now(1000.0, 1_700_000_000.0, "boot-1")
POLICY = Policy("/state", memory_reserve_mib=0, disk_reserve_mib=0)
HOST = HostFacts(10_000_000, 10_000_000, None)


@dataclass(slots=True)
class Taken:
    """Seconds of each part, for each commit; `cold` is the first load, which knows nothing."""

    cold: float = 0.0
    load: list[float] = field(default_factory=list)
    plan: list[float] = field(default_factory=list)
    check: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """Of load and plan together, all threads."""


def measure(scale: Scale) -> list[Figure]:
    gc.set_threshold(*COLLECT_AFTER)  # as the daemon does
    sizes = (100, 1000) if scale.quick else (1000, 10_000)
    return [_figure(size, asyncio.run(_measure(size, scale.pick(11, 3)))) for size in sizes]


def _figure(size: int, taken: Taken) -> Figure:
    totals = ms([a + b for a, b in zip(taken.load, taken.plan, strict=True)])
    cold = taken.cold * 1000 + median(ms(taken.plan))
    return Figure(
        f"plan after one file of {size:,} manifests", median(totals), "ms", cold,
        "the same from cold caches", target=TARGETS.get(size), spread=spread_of(totals, "ms"),
        note="wall time of GitSource.load and plan; one manifest changes, one VM is to move",
        details={
            "load, ms": round(median(ms(taken.load)), 1),
            "plan, ms": round(median(ms(taken.plan)), 1),
            "CPU of both, ms": round(median(ms(taken.cpu)), 1),
            "and the plan's check, ms": round(median(ms(taken.check)), 1),
        },
    )  # fmt: skip


async def _measure(size: int, count: int) -> Taken:
    taken = Taken()
    with tempfile.TemporaryDirectory(prefix="rb-") as folder:
        repository = await asyncio.to_thread(Repository.create, Path(folder))
        first = await asyncio.to_thread(fill, repository, size)
        revisions = await asyncio.to_thread(_changes, repository, count)
        async with _source(Path(folder), repository) as source:
            await source.fetch()  # brings all of them, and parses the newest
        async with _source(Path(folder), repository) as source:
            began = time.perf_counter()
            desired = await source.load(Revision(first))
            taken.cold = time.perf_counter() - began
            observed, record = settled(desired)
            # What a first pass notes of a revision; nothing is to be done for it.
            record = apply(record, plan(desired, observed, record, NOW, POLICY).changes)
            if not plan(desired, observed, record, NOW, POLICY).idle:
                raise RuntimeError("there was something to do before any change")
            for revision in revisions:
                await _one(source, revision, observed, record, taken)
    return taken


async def _one(
    source: GitSource, revision: str, observed: Observed, record: Record, taken: Taken
) -> None:
    cpu, began = time.process_time(), time.perf_counter()
    desired = await source.load(Revision(revision))
    loaded = time.perf_counter()
    decided = plan(desired, observed, record, NOW, POLICY)
    planned = time.perf_counter()
    taken.cpu.append(time.process_time() - cpu)
    if check(decided, desired, observed, record, NOW) or moved(decided) != 1:
        raise RuntimeError("one VM was to move, by a sound plan")
    taken.check.append(time.perf_counter() - planned)
    taken.load.append(loaded - began)
    taken.plan.append(planned - loaded)


def moved(decided: Plan) -> int:
    return len(decided.differences)


def _changes(repository: Repository, count: int) -> list[str]:
    """One commit after the other, each with another memory of the same VM; pushed, not fetched."""
    revisions = []
    for number in range(count):
        declare(repository, 0, SMALLEST + 1 + number)
        revisions.append(repository.push(f"change {number}"))
    return revisions


@contextlib.asynccontextmanager
async def _source(folder: Path, repository: Repository) -> AsyncIterator[GitSource]:
    config = config_of(folder, repository.bare, builds=64)
    git = config.state / "git"
    git.mkdir(parents=True, exist_ok=True)
    source = GitSource(config.source, config.policy, config.kernels, git, SystemClock())
    try:
        yield source
    finally:
        await source.close()


def settled(desired: DesiredState) -> tuple[Observed, Record]:
    """Every VM runs its first generation, committed and healthy."""
    guests, records = {}, {}
    first = GenerationNumber(1)
    for number, (name, spec) in enumerate(desired.vms.items()):
        instance = InstanceId(f"{name}-g1")
        process = Process(name, instance, first, 1000 + number, 1, 100.0, hypervisor="qemu")
        guests[name] = (Guest(process, ProbeCounts(3, passing_since=200.0, ever_passed=True)),)
        generation = Generation(
            name, first, spec.digest, desired.revision, spec, 0.0, verdict="committed"
        )
        start = Start(instance, first, "trial", Deadline(400.0, NOW.boot_id))
        records[name] = VMRecord(name, spec.group, (generation,), GenerationNumber(2), start=start)
    layers = frozenset(layer.key for spec in desired.vms.values() for layer in spec.layers)
    kernels = frozenset(spec.kernel.key for spec in desired.vms.values())
    source = SourceRecord(desired.revision, 1.0, desired.revision)
    return Observed(guests, layers, kernels, HOST), Record(records, source=source)
