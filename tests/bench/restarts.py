"""From `kill -9` of a guest to the start of the next: real supervisor and ledger, cheap processes."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from demo.processes import end, guests_under
from demo.repository import Repository
from reconciler.clock import SystemClock
from reconciler.config import Config
from reconciler.engine.interfaces import Adapters, Wake
from reconciler.hypervisors import CAPABILITIES, DEFAULT, Capabilities
from reconciler.model.machine import GuestEndpoint, Launch, Machine, Route
from reconciler.model.observed import Process
from reconciler.supervisor.local import LocalSupervisor
from reconciler.vmm.generation_folders import GenerationFolders
from tests.bench.figures import Figure, Scale, median, ms, percentile, spread_of
from tests.bench.manifests import fill
from tests.bench.rig import PATIENCE, config_of, open_rig

VMM = ("/bin/sh", "-c", "exec sleep 1000")
TARGET = 100.0


class SleepDriver:
    """Its guests sleep, in a real process each."""

    def launch(self, machine: Machine) -> Launch:
        # As the base's init does; a guest that says nothing counts as up after 30 s.
        said = f"echo reconciler-up: {machine.instance}; {VMM[-1]}"
        return Launch((*VMM[:-1], said), machine.folder, prints_console=True)

    async def press_power_button(self, folder: Path, pid: int, deadline: float) -> None:
        pass

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES[DEFAULT]

    async def prepare(self, machine: Machine) -> None:
        pass

    def of(self, hypervisor: str) -> SleepDriver:  # noqa: ARG002 - all sleep
        return self

    async def open_ports(
        self, seat: GuestEndpoint, before_giving_up: Callable[[], Awaitable[None]]
    ) -> tuple[Route, ...]:
        del before_giving_up
        raise AssertionError(f"{seat}: no VM here is handed over")


class Starts:
    """When the newest guest of each VM was started."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}
        self.process: dict[str, Process] = {}
        self._news = asyncio.Event()

    def changed(self, process: Process) -> None:
        if process.alive:
            self.at[process.vm] = time.monotonic()
            self.process[process.vm] = process
            self._news.set()

    async def after(self, vm: str, moment: float) -> float:
        async with asyncio.timeout(PATIENCE):
            while self.at[vm] < moment:
                self._news.clear()
                await self._news.wait()
        return self.at[vm]


def measure(scale: Scale) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="rb-") as folder:
        try:
            return asyncio.run(_measure(Path(folder), scale.pick(40, 5)))
        finally:
            end(guest.pid for guest in guests_under(Path(folder)))


async def _measure(folder: Path, count: int) -> list[Figure]:
    repository = Repository.create(folder)
    revision = fill(repository, count)
    starts = Starts()

    supervisors: list[LocalSupervisor] = []
    listening: list[asyncio.Task[None]] = []

    def guests(adapters: Adapters, config: Config, wake: Wake) -> Adapters:
        root = config.state / "vms"
        supervisor = LocalSupervisor(root, SystemClock(), wake, starts.changed)
        supervisors.append(supervisor)
        listening.append(asyncio.create_task(supervisor.run()))
        folders = GenerationFolders(root)
        return replace(adapters, drivers=SleepDriver(), supervisor=supervisor, generations=folders)

    ours: list[float] = []
    bare: list[float] = []
    try:
        async with open_rig(config_of(folder, repository.bare, builds=64), guests) as rig:
            await rig.applied(revision)
            for vm in sorted(starts.process):  # each once: a second crash earns a pause
                killed = time.monotonic()
                os.kill(starts.process[vm].pid, signal.SIGKILL)
                ours.append(await starts.after(vm, killed) - killed)
                bare.append(await asyncio.to_thread(_bare))
                await rig.healthy()
    finally:
        for task in listening:
            task.cancel()
        await asyncio.gather(*listening, return_exceptions=True)
        for supervisor in supervisors:
            await supervisor.close()
    return [_figure(ms(ours), ms(bare))]


def _figure(ours: list[float], bare: list[float]) -> Figure:
    return Figure(
        "kill -9 to restart, most", max(ours), "ms", max(bare),
        "pidfd and Popen by hand, most", target=TARGET, spread=spread_of(ours, "ms"),
        note="to the moment at which the new process exists; the crash and the intent to start"
        " were made durable in between",
        details={
            "p50, ms": round(percentile(ours, 50), 1),
            "by hand p50, ms": round(median(bare), 1),
            "ratio of p50": round(percentile(ours, 50) / median(bare), 1),
        },
    )  # fmt: skip


def _bare() -> float:
    """Seconds from the kill of a process to the next one, with nothing in between."""
    first = subprocess.Popen(VMM)
    handle = os.pidfd_open(first.pid)
    try:
        killed = time.monotonic()
        first.kill()
        gone, _, _ = select.select([handle], [], [], PATIENCE)
        second = subprocess.Popen(VMM)
        taken = time.monotonic() - killed
    finally:
        os.close(handle)
        first.kill()
        first.wait()
    second.kill()
    second.wait()
    if not gone:
        raise RuntimeError("a killed process does not end")
    return taken
