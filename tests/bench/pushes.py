"""From a push to the plan that answers it: real git, real watch, real ledger, pretended guests."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from demo.repository import BRANCH, Repository
from reconciler.model.event import Event
from tests.bench.figures import Figure, Scale, ms, percentile, spread_of
from tests.bench.manifests import fill, name_of, page
from tests.bench.rig import PATIENCE, Rig, config_of, open_rig

VMS = 10
TARGET = 250.0
PAUSE = 0.05
"""Seconds between pushes, so that one push is one look."""


class Watcher:
    """Notes when each revision was accepted, and when the first pass after it was executed."""

    def __init__(self, rig: Rig) -> None:
        self.accepted: dict[str, float] = {}
        self.planned: dict[str, float] = {}
        self._news = asyncio.Event()
        rig.ledger.subscribe(self._event)
        rig.metrics.on_planned = self._pass

    def _event(self, event: Event) -> None:
        if event.kind == "revision-accepted" and event.revision:
            self.accepted[event.revision] = time.monotonic()

    def _pass(self) -> None:
        # A revision is accepted between passes and never in one, so this pass planned for it.
        for revision in self.accepted.keys() - self.planned.keys():
            self.planned[revision] = time.monotonic()
        self._news.set()

    async def until_planned(self, revision: str) -> float:
        async with asyncio.timeout(PATIENCE):
            while revision not in self.planned:
                self._news.clear()
                await self._news.wait()
        return self.planned[revision]


def measure(scale: Scale) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="rb-") as folder:
        return asyncio.run(_measure(Path(folder), scale.pick(120, 12)))


async def _measure(folder: Path, count: int) -> list[Figure]:
    repository = Repository.create(folder)
    first = fill(repository, VMS)
    pushing: list[float] = []
    looking: list[float] = []
    planning: list[float] = []
    async with open_rig(config_of(folder, repository.bare, builds=8)) as rig:
        await rig.applied(first)
        watcher = Watcher(rig)
        for number in range(count):
            revision = await asyncio.to_thread(_commit, repository, number)
            began = time.monotonic()
            await asyncio.to_thread(repository.git, "push", "-q", "origin", BRANCH)
            pushing.append(time.monotonic() - began)
            planning.append(await watcher.until_planned(revision) - began)
            looking.append(watcher.accepted[revision] - began)
            await asyncio.sleep(PAUSE)
    totals = ms(planning)
    p50, p99 = percentile(totals, 50), percentile(totals, 99)
    return [
        Figure(
            "push to plan, p99", p99, "ms", percentile(ms(pushing), 99),
            "`git push` alone, p99", target=TARGET, spread=spread_of(totals, "ms"),
            note="from the start of `git push` to the end of the pass that planned for it: its"
            " changes are durable and its actions begun; one file of one VM's tree changes",
            details={
                "p50, ms": round(p50, 1), "p95, ms": round(percentile(totals, 95), 1),
                "git push p50, ms": round(percentile(ms(pushing), 50), 1),
                "push to accepted p50, ms": round(percentile(ms(looking), 50), 1),
            },
        ),
    ]  # fmt: skip


def _commit(repository: Repository, number: int) -> str:
    page(repository, number % VMS, f"push {number}")
    repository.git("add", "-A")
    repository.git("commit", "-q", "-m", f"{name_of(number % VMS)}: push {number}")
    return repository.head()
