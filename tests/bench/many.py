"""A thousand VMs from one push on pretended guests: the time, the daemon's memory, and a scrape."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import IO, Any

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from demo.repository import BRANCH, Repository
from tests.bench.figures import Figure, Scale, median, ms, spread_of
from tests.bench.machine import ROOT, resident_mib
from tests.bench.manifests import declare, name_of, page
from tests.bench.rig import PATIENCE

BUILDS = 64
CALM = 3.0
"""Seconds after which the memory is read, and over which the idle CPU is taken."""
FLUX = "Flux publishes 253 s for 1,000 objects, on another machine and against an API server"


@dataclass(frozen=True, slots=True)
class Brought:
    """One fleet brought up by one daemon."""

    seconds: float
    accepted: float
    resident: float
    idle_share: float
    """CPU seconds a second when all is settled."""
    scrapes: list[float]
    metrics: str


def measure(scale: Scale) -> list[Figure]:
    small, large = (10, 100) if scale.quick else (100, 1000)
    repeats = scale.pick(3, 1)
    one = bring_up(1, 1)
    few: list[Brought] = []
    many: list[Brought] = []
    for _ in range(repeats):
        few.append(bring_up(small, 1))
        many.append(bring_up(large, scale.pick(20, 3)))
    return [
        _time(large, small, many, few),
        _memory(large, many, one),
        _scrape(large, many),
    ]


def _time(large: int, small: int, many: list[Brought], few: list[Brought]) -> Figure:
    times, seconds = large // small, [one.seconds for one in many]
    return Figure(
        f"{large:,} VMs from one push", median(seconds), "s",
        times * median([one.seconds for one in few]), f"{times} x {small} VMs",
        target=5.0 if large == 1000 else None, spread=spread_of(seconds, "s"),
        note="from the start of `git push` to `revision-applied`: every VM created, started, asked"
        f" and committed. Real: git, sqlite, prober (process checks). Pretended: layers, folders"
        f" and guests. max_concurrent_builds = {BUILDS}. {FLUX}",
        details={"push to accepted, s": round(median([one.accepted for one in many]), 2)},
    )  # fmt: skip


def _memory(large: int, many: list[Brought], one: Brought) -> Figure:
    sizes = [each.resident for each in many]
    return Figure(
        f"daemon's memory at {large:,} VMs", median(sizes), "MiB", one.resident,
        "the same with 1 VM", target=100.0 if large == 1000 else None,
        spread=spread_of(sizes, "MiB"),
        note=f"VmRSS {CALM:g} s after the last VM was committed, in a process that began empty;"
        " the child that fetches is a process of its own",
        details={
            "KiB a VM": round((median(sizes) - one.resident) * 1024 / (large - 1), 1),
            "CPU when idle, % of a core": round(100 * median([m.idle_share for m in many]), 1),
        },
    )  # fmt: skip


def _scrape(large: int, many: list[Brought]) -> Figure:
    text = many[-1].metrics
    values = ms([seconds for one in many for seconds in one.scrapes])
    series = sum(not line.startswith("#") for line in text.splitlines())
    return Figure(
        f"scrape of {large:,} VMs", median(values), "ms", rendering(text) * 1000,
        "prometheus_client on the same series", spread=spread_of(values, "ms"),
        note=f"GET /metrics over the loopback: {series:,} series, {len(text) / 1024:,.0f} KiB",
    )  # fmt: skip


def bring_up(size: int, scrapes: int) -> Brought:
    with tempfile.TemporaryDirectory(prefix="rb-") as name:
        folder = Path(name)
        repository = Repository.create(folder)
        for number in range(size):
            declare(repository, number)
            page(repository, number, "first")
        repository.git("add", "-A")
        repository.git("commit", "-q", "-m", f"{name_of(0)} to {name_of(size - 1)}")
        with Child.open(folder, repository) as child:
            ready = child.until("ready")
            began = time.monotonic()
            repository.git("push", "-q", "origin", BRANCH)
            accepted = child.until("revision-accepted")["at"] - began
            seconds = child.until("revision-applied")["at"] - began
            share = idle_share(ready["pid"])
            resident = resident_mib(ready["pid"])
            taken, text = scrape(ready["port"], ready["token"], scrapes)
        return Brought(seconds, accepted, resident, share, taken, text)


class Child:
    """The daemon's process, and what it tells."""

    def __init__(self, process: subprocess.Popen[str], lines: IO[str]) -> None:
        self._told: Queue[dict[str, Any]] = Queue()
        self._reader = threading.Thread(target=self._read, args=(lines,), daemon=True)
        self._reader.start()
        self.process = process

    @classmethod
    @contextmanager
    def open(cls, folder: Path, repository: Repository) -> Iterator[Child]:
        command = [
            *(sys.executable, "-m", "tests.bench.daemon"),
            *(str(folder), str(repository.bare), str(BUILDS)),
        ]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        ) as process:
            try:
                if process.stdin is None or process.stdout is None:
                    raise RuntimeError("a child without pipes")
                yield cls(process, process.stdout)
                process.stdin.close()
                process.wait(PATIENCE)
            finally:
                process.kill()

    def until(self, event: str) -> dict[str, Any]:
        """The next word of this kind. Raises RuntimeError when it does not come."""
        while True:
            try:
                word = self._told.get(timeout=PATIENCE)
            except Empty:
                raise RuntimeError(f"the child does not tell of {event}") from None
            if word["event"] == event:
                return word
            if word["event"] in ("revision-rejected", "ended"):
                raise RuntimeError(f"instead of {event}: {word}")

    def _read(self, lines: IO[str]) -> None:
        for line in lines:
            self._told.put(json.loads(line))
        self._told.put({"event": "ended"})


def idle_share(pid: int) -> float:
    """CPU seconds a second over a calm while."""
    before, began = cpu_seconds(pid), time.monotonic()
    time.sleep(CALM)
    return (cpu_seconds(pid) - before) / (time.monotonic() - began)


def cpu_seconds(pid: int) -> float:
    parts = Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()
    return int(parts[0]) / 1e9


def scrape(port: int, token: str, times: int) -> tuple[list[float], str]:
    taken, text = [], ""
    for _ in range(times):
        began = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        try:
            connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {token}"})
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        taken.append(time.perf_counter() - began)
    return taken, text


class Samples:
    """Gives back what was read."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def rendering(text: str, times: int = 5) -> float:
    """Seconds that the client library takes to write the same text."""
    registry = CollectorRegistry()
    registry.register(Samples(list(text_string_to_metric_families(text))))
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        generate_latest(registry)
        taken.append(time.perf_counter() - began)
    return median(taken)
