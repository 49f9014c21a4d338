"""The real engine, source, ledger and prober, wired as the daemon wires them, over pretended guests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from reconciler.clock import SystemClock
from reconciler.config import Config, parse_config
from reconciler.control.access import Access
from reconciler.control.servers import serve_control, serve_http
from reconciler.daemon import policy_of
from reconciler.engine.guarded_ledger import GuardedLedger
from reconciler.engine.interfaces import Adapters, Wake
from reconciler.engine.loop import Engine
from reconciler.ledger.sqlite import SqliteLedger, open_ledger
from reconciler.metrics import Metrics
from reconciler.model.policy import Policy
from reconciler.model.status import HostStatus, RevisionStatus
from reconciler.now import Now
from reconciler.probe.prober import GuestProber
from reconciler.secret_file import own_secret
from reconciler.source.git.source import GitSource
from tests.eventually import eventually
from tests.fakes import FakeClock
from tests.world import World

PATIENCE = 120.0
"""Seconds for anything that a measure waits for."""
EMPTY = HostStatus(RevisionStatus(None, None), (), (), suspended=False)

GuestsOf = Callable[[Adapters, Config, Wake], Adapters]
"""Puts other guests in the place of the pretended ones."""


class RealTime(FakeClock):
    """The host's time, where the fakes ask for a clock of their kind."""

    def __init__(self) -> None:
        super().__init__()
        self._system = SystemClock()

    def now(self) -> Now:
        return self._system.now()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class PassMetrics(Metrics):
    """Tells of every pass that was executed, as soon as it was."""

    on_planned: Callable[[], None] | None = None

    def began(self, actions: Mapping[str, int]) -> None:
        super().began(actions)
        if self.on_planned is not None:
            self.on_planned()


@dataclass(frozen=True, slots=True)
class Rig:
    engine: Engine
    ledger: SqliteLedger
    metrics: PassMetrics
    http_port: int
    """0 when the faces are closed."""
    token: str
    """What its metrics ask for."""

    async def applied(self, revision: str) -> None:
        """Wait until every VM serves a revision."""
        await eventually(lambda: self.ledger.record().source.applied == revision, PATIENCE)

    async def healthy(self) -> None:
        """Wait until every VM is."""
        await eventually(lambda: all(vm.healthy for vm in self.engine.status().vms), PATIENCE)


def config_of(folder: Path, repository: Path, builds: int) -> Config:
    policy = {"max_concurrent_builds": builds, "memory_reserve_mib": 1, "disk_reserve_mib": 1}
    return parse_config(
        {
            "state_dir": str(folder / "state"),
            "control_socket": str(folder / "control.sock"),
            "source": {"url": str(repository), "max_files": 100_000},
            "http": {"port": 0},
            "policy": policy,
        },
        "bench",
    )


def pretended(adapters: Adapters, _config: Config, _wake: Wake) -> Adapters:
    """Guests in memory: starting and stopping one costs nothing."""
    return adapters


def fakes(policy: Policy, wake: Wake) -> Adapters:
    """Every port by its fake, in real time."""
    world = World(policy)
    world.hypervisor.clock = world.faults.clock = RealTime()
    world.hypervisor.wake = wake
    return world.adapters


@contextlib.asynccontextmanager
async def open_rig(
    config: Config, guests_of: GuestsOf = pretended, *, faces: bool = False
) -> AsyncIterator[Rig]:
    """Running until the block ends; everything is closed then, in reverse."""
    engines: list[Engine] = []

    def wake() -> None:
        for engine in engines:
            engine.wake()

    config.state.mkdir(parents=True, exist_ok=True)
    async with contextlib.AsyncExitStack() as stack:
        metrics = PassMetrics(
            lambda: engines[0].status() if engines else EMPTY,
            version="bench", started_wall=SystemClock().now().wall,
        )  # fmt: skip
        ledger = open_ledger(config.state / "ledger.db", SystemClock()).ledger
        stack.push_async_callback(ledger.close)
        guarded = GuardedLedger(ledger, metrics, SystemClock())
        adapters = replace(fakes(policy_of(config), wake), ledger=guarded)
        adapters = await _real(guests_of(adapters, config, wake), metrics, config, wake, stack)
        engine = Engine(adapters, policy_of(config))
        engines.append(engine)
        adapters.source.watch(engine.look)
        port, token = await _open_faces(engine, metrics, config, stack) if faces else (0, "")
        task = asyncio.create_task(engine.run())
        stack.push_async_callback(_end, task)
        yield Rig(engine, ledger, metrics, port, token)


async def _real(
    adapters: Adapters,
    metrics: PassMetrics,
    config: Config,
    wake: Wake,
    stack: contextlib.AsyncExitStack,
) -> Adapters:
    """The ports with a real clock, prober, source and meter."""
    clock = SystemClock()
    prober = GuestProber(
        clock, wake, lambda one: metrics.probe_answered(one.kind, one.result, one.seconds)
    )
    stack.push_async_callback(prober.close)
    git = config.state / "git"
    source = GitSource(config.source, config.policy, config.kernels, git, clock)
    stack.push_async_callback(source.close)
    return replace(adapters, clock=clock, prober=prober, source=source, meter=metrics)


async def _open_faces(
    engine: Engine, metrics: PassMetrics, config: Config, stack: contextlib.AsyncExitStack
) -> tuple[int, str]:
    """The port of the TCP listener, and the token for its metrics."""
    clock = SystemClock()
    access = Access(own_secret(config.state / "http.key"), lambda: clock.now().wall)
    control = await serve_control(engine, config, clock, access)
    stack.push_async_callback(control.close)
    http = await serve_http(engine, metrics.render, config.http, access)
    stack.push_async_callback(http.close)
    return http.port, access.token("metrics")


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
