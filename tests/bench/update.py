"""A push until its new generation is healthy, on real QEMU, beside the same stop and boot by hand."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import yaml

from demo.daemon import free_port
from demo.fleet import page
from demo.repository import BRANCH
from demo.stage import MANIFESTS, Stage
from tests.bench.bare import BareGuest, argv_of, first_answer
from tests.bench.figures import Figure, Scale, median, spread_of
from tests.bench.follow import Follower
from tests.wait import wait_until

VM = "web-a"
FIRST = 600.0
"""Seconds for the first guest: the kernel bundle may have to be fetched and made."""
TARGET_RATIO = 1.10
HEALTH = {"startupDeadline": "90s", "minHealthyTime": "0s"}
CALM = 1.0
"""Seconds of rest before each measurement: what follows a commit is not this figure's."""
STEPS = (
    ("accepted", "revision-accepted"),
    ("created", "generation-created"),
    ("stopping", "guest-stopping"),
    ("starting", "guest-starting"),
)
"""Events of an update, in their order, and what has come to pass with each."""


@dataclass(slots=True)
class Taken:
    """Seconds of each round."""

    ours: list[float] = field(default_factory=list)
    bare_stop: list[float] = field(default_factory=list)
    bare_boot: list[float] = field(default_factory=list)
    phases: dict[str, list[float]] = field(default_factory=dict)

    def phase(self, name: str, seconds: float) -> None:
        self.phases.setdefault(name, []).append(seconds)

    @property
    def bare(self) -> list[float]:
        return [a + b for a, b in zip(self.bare_stop, self.bare_boot, strict=True)]


def measure(scale: Scale) -> list[Figure]:
    stage = Stage.open()
    try:
        port = free_port()
        declare(stage, port)
        first = stage.repository.push("one VM")
        stage.seed()
        stage.daemon.start()
        wait_until(lambda: stage.daemon.fleet().settled(first, VM), FIRST, "the first guest")
        taken = asyncio.run(_rounds(stage, port, scale.pick(15, 2)))
        accel = accel_of(_pid(stage))
    finally:
        left = stage.close()
    if left:
        raise RuntimeError(f"still running: {left}")
    return [_figure(taken, accel)]


def declare(stage: Stage, port: int) -> None:
    """One VM of the sample fleet, alone, on a port of its own."""
    for path in (f"{VM}.yaml", VM):
        source = MANIFESTS / path
        for file in [source] if source.is_file() else source.rglob("*"):
            if file.is_file():
                name = str(file.relative_to(MANIFESTS))
                stage.repository.write(name, file.read_text("utf-8"), file.stat().st_mode & 0o777)
    text = re.sub(r"\b(host|port): 80\d\d\b", rf"\1: {port}", stage.repository.read(f"{VM}.yaml"))
    manifest = yaml.safe_load(text)
    del manifest["metadata"]["group"], manifest["spec"]["update"]["after"]
    manifest["spec"]["health"] |= HEALTH
    stage.repository.write(f"{VM}.yaml", yaml.safe_dump(manifest))


async def _rounds(stage: Stage, port: int, count: int) -> Taken:
    taken = Taken()
    async with Follower(stage.daemon.settings.socket) as events, _twin(stage) as twin:
        await twin.boot(argv_of(_pid(stage), twin.port), "")
        for number in range(count):
            marker = f"round {number} of the benchmark"
            await asyncio.sleep(CALM)
            await _ours(stage, port, marker, events, taken)
            await asyncio.sleep(CALM)
            await _bare(twin, argv_of(_pid(stage), twin.port), marker, taken)
    return taken


@asynccontextmanager
async def _twin(stage: Stage) -> AsyncIterator[BareGuest]:
    twin = BareGuest(stage.root / "twin", free_port())
    try:
        yield twin
    finally:
        await twin.kill()


async def _ours(stage: Stage, port: int, marker: str, events: Follower, taken: Taken) -> None:
    """Push, and wait until the daemon says that the new generation is healthy."""
    git = stage.repository.git
    stage.repository.write(page(VM), f"{marker}\n")
    await asyncio.to_thread(git, "commit", "-q", "-a", "-m", marker)
    before = len(events.heard)
    began = last = time.monotonic()
    await asyncio.to_thread(git, "push", "-q", "origin", BRANCH)
    pushed = time.monotonic()
    for phase, kind in STEPS:
        one = await events.until(kind, before)
        taken.phase(phase, one.at - last)
        last = one.at
    answered = await first_answer(port, marker)
    healthy = await events.until("generation-committed", before)
    taken.phase("answers", answered - last)
    taken.phase("healthy", healthy.at - answered)
    taken.phase("(git push returned)", pushed - began)
    taken.ours.append(healthy.at - began)
    await events.until("revision-applied", before, revision=stage.repository.head())


async def _bare(twin: BareGuest, argv: list[str], marker: str, taken: Taken) -> None:
    began = time.monotonic()
    await twin.stop()
    stopped = time.monotonic()
    await twin.boot(argv, marker)
    taken.bare_stop.append(stopped - began)
    taken.bare_boot.append(time.monotonic() - stopped)


def _pid(stage: Stage) -> int:
    pid = stage.daemon.fleet().vms[VM].pid
    if pid is None:
        raise RuntimeError(f"{VM} does not run")
    return pid


def accel_of(pid: int) -> str:
    return "kvm" if "-accel kvm" in " ".join(argv_of(pid, 1)) else "tcg"


def _figure(taken: Taken, accel: str) -> Figure:
    phases = {f"until {key}, s": round(median(each), 3) for key, each in taken.phases.items()}
    pairs = [a / b for a, b in zip(taken.ours, taken.bare, strict=True)]
    return Figure(
        "push to new generation healthy", median(taken.ours), "s", median(taken.bare),
        "stop and boot of the same by hand", target_ratio=TARGET_RATIO,
        spread=spread_of(taken.ours, "s"),
        note=f"one VM, accel {accel}, one file of its tree changes, so one layer is built anew."
        " From the start of `git push` to the event `generation-committed` with"
        " minHealthyTime 0s. By hand: power button over QMP, wait for the process, QEMU with the"
        " very same command line and images but for the forwarded port, until HTTP answers. Ratios"
        " are of medians; both guests take turns, and the other one idles meanwhile",
        details={
            **phases,
            "by hand, stop, s": round(median(taken.bare_stop), 3),
            "by hand, boot to HTTP, s": round(median(taken.bare_boot), 3),
            "by hand, least / median / most": spread_of(taken.bare, "s"),
            "ratios of the rounds": spread_of(pairs, ""),
        },
    )  # fmt: skip
