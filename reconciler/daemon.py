"""The composition root: the only module that knows both the engine and the adapters."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from reconciler.clock import Clock, SystemClock
from reconciler.config import MIB, Config, PolicyConfig
from reconciler.control.access import Access
from reconciler.control.responses import version as own_version
from reconciler.control.servers import serve_control, serve_http
from reconciler.control.webhook import Webhook
from reconciler.engine.guarded_ledger import GuardedLedger
from reconciler.engine.interfaces import Adapters
from reconciler.engine.loop import Engine
from reconciler.engine.scrub import Scrub
from reconciler.errors import ConfigError, SupervisorError
from reconciler.host import layout, state_lock
from reconciler.image.build_site import Sources
from reconciler.image.debian_packages import Debian
from reconciler.image.debian_roots.builder_client import DebianRoots, by_socket, own_roots
from reconciler.image.oci.tag_lookup import RegistryTags
from reconciler.image.store import ImageStore
from reconciler.ledger.sqlite import open_ledger
from reconciler.logs import open_log
from reconciler.metrics import Metrics
from reconciler.metrics.disk_usage import keep_stock
from reconciler.metrics.sampler import Sampler
from reconciler.model.guest_reports import GuestFigures
from reconciler.model.names import InstanceId
from reconciler.model.policy import Policy
from reconciler.model.status import HostStatus, RevisionStatus, VMStatus
from reconciler.notify.notifier import Notifier
from reconciler.probe.prober import GuestProber
from reconciler.proxy.client import ProxyClient
from reconciler.proxy.launch import Starter
from reconciler.secret_file import own_secret, read_secret
from reconciler.source.registry import open_source
from reconciler.spans import UNTRACED, Tracer
from reconciler.supervisor.local import LocalSupervisor
from reconciler.supervisor.process_supervisor import ProcessSupervisor
from reconciler.supervisor.systemd import SystemdSupervisor
from reconciler.supervisor.systemd_files import group_id
from reconciler.systemd_notify import Service, keep_informed
from reconciler.vmm.generation_folders import GenerationFolders
from reconciler.vmm.host_facts import LocalHost
from reconciler.vmm.netlink import Owner
from reconciler.vmm.registry import DriverRegistry, open_drivers
from reconciler.vmm.tap_devices import BridgedTaps, NoTaps
from reconciler.vmm.tap_traffic import traffic
from reconciler.vmm.volumes.files import VolumeFiles

log = logging.getLogger(__name__)

FRONT_FOLDER = Path("/run/reconciler-front")
"""Where reconciler-front.socket listens."""
BUILDER_SOCKET = Path("/run/reconciler-build.sock")
BUILDER_HOME = Path("/var/cache/reconciler-build/home")
"""Where reconciler-build.socket listens."""
COLLECT_AFTER = (50_000, 50, 100)
"""Thresholds of Python's garbage collector for cycles.

Specs and records are many, live long and have no cycles. With the default thresholds every third plan of
10,000 VMs spends 0.17 s on examining all of them.
"""


async def run(config: Config, *, ready: Callable[[], None] | None = None) -> None:
    """Run until SIGTERM or SIGINT; guests keep running.

    SIGHUP fetches the source at once. `ready` is called when the state is loaded and the listeners are
    open. Raises ConfigError, StateDirLocked and LedgerError.
    """
    open_log(config.log_format)
    gc.set_threshold(*COLLECT_AFTER)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Each guest takes a pidfd and sockets of checks.
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    service = Service()
    with state_lock.held(config.state):
        async with _daemon(config, SystemClock(), service) as tasks:
            log.info("running", extra={"fields": {"state_dir": config.state_dir}})
            if ready is not None:
                ready()
            await _until_ended(tasks)
            service.stopping()
    log.info("stopped; guests are left as they are")


@contextlib.asynccontextmanager
async def _daemon(
    config: Config, clock: Clock, service: Service
) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Create and connect all parts; yields their tasks, and closes everything in reverse."""
    async with contextlib.AsyncExitStack() as stack:
        opened = open_ledger(layout.ledger(config.state), clock)
        stack.push_async_callback(opened.ledger.close)
        engine_of: list[Engine] = []

        def wake() -> None:
            for engine in engine_of:
                engine.wake()

        def status() -> HostStatus:
            return engine_of[0].status() if engine_of else EMPTY

        metrics = _metrics(config, status, clock)
        if opened.recovered:
            log.error("the ledger was damaged", extra={"fields": {"recovered": opened.recovered}})
            metrics.state_recovered()
        ledger = GuardedLedger(opened.ledger, metrics, clock)
        notifier = Notifier(config.notifications, ledger, clock, metrics)
        stack.push_async_callback(notifier.close)
        await notifier.open()  # before anything writes events
        tracer = await _tracer(config, clock, stack)
        supervisor, drivers = _guests(config, clock, wake, stack)
        made = (ledger, metrics, supervisor, tracer, drivers)
        adapters = await _adapters(config, clock, wake, stack, made)
        engine = Engine(adapters, policy_of(config))
        engine_of.append(engine)
        adapters.source.watch(engine.look)
        access = _access(config, clock)
        control = await serve_control(engine, config, clock, access, service.listener("control"))
        stack.push_async_callback(control.close)
        http = await serve_http(
            engine, metrics.render, config.http, access, service.listener("http"),
            webhook=_webhook(config, engine, metrics),
        )  # fmt: skip
        stack.push_async_callback(http.close)
        log.info("listening", extra={"fields": {"socket": str(control.path), "port": http.port}})
        informed = keep_informed(
            service, clock.sleep, engine.ready, engine.live, lambda: _words(engine.status())
        )
        with _signals(engine, service):
            own = (
                *(engine.run(), supervisor.run(), notifier.run()),
                keep_stock(config.state, clock, metrics.stocked),
                control.keep(clock.sleep),
                _scrub(config, adapters, engine),
            )
            tasks = [
                asyncio.create_task(part)
                for part in (*own, _sampled(engine, supervisor, drivers, metrics, clock), informed)
            ]
            stack.push_async_callback(_end, tasks)
            yield tasks


def _guests(
    config: Config, clock: Clock, wake: Callable[[], None], stack: contextlib.AsyncExitStack
) -> tuple[ProcessSupervisor, DriverRegistry]:
    """The supervisor of VMM processes, and the drivers of VMMs."""
    supervisor = SUPERVISORS[config.supervisor](layout.vms(config.state), clock, wake)
    stack.push_async_callback(supervisor.close)
    return supervisor, open_drivers(config, supervisor.press)


def _access(config: Config, clock: Clock) -> Access:
    """Access control of the TCP listener. Raises ConfigError."""
    acting = ""
    if config.http.token_file:
        acting = read_secret("http.token_file", Path(config.http.token_file), private=True)
    return Access(
        own_secret(layout.http_key(config.state)),
        lambda: clock.now().wall,
        acting,
        port=config.http.port,
    )


def _webhook(config: Config, engine: Engine, metrics: Metrics) -> Webhook | None:
    if not config.webhook.secret_file:
        return None
    secret = read_secret("webhook.secret_file", Path(config.webhook.secret_file)).encode()
    return Webhook(secret, engine.look, metrics.webhook_received)


async def _adapters(
    config: Config, clock: Clock, wake: Callable[[], None], stack: contextlib.AsyncExitStack,
    made: tuple[GuardedLedger, Metrics, ProcessSupervisor, Tracer, DriverRegistry],
) -> Adapters:  # fmt: skip
    """All adapters: those in `made`, and the others, which the stack closes."""
    ledger, metrics, supervisor, tracer, drivers = made
    prober = GuestProber(
        clock, wake, lambda one: metrics.probe_answered(one.kind, one.result, one.seconds),
        supervisor.printed,
    )  # fmt: skip
    stack.push_async_callback(prober.close)
    source = await open_source(config, clock, tracer)
    stack.push_async_callback(source.close)
    images = ImageStore(
        config.state, clock,
        builds_at_once=config.policy.max_concurrent_builds,
        disk_reserve_bytes=config.policy.disk_reserve_mib * MIB,
        debian=Debian(_debian_roots(config)),
        sources=Sources(
            tuple(config.registries), tuple(config.policy.image_urls), config.policy.scripts
        ),
    )  # fmt: skip
    stack.push_async_callback(images.close)
    await images.open()
    taps = _taps(config)
    stack.push_async_callback(taps.close)
    return Adapters(
        source=source,
        images=images,
        inventory=images.inventory,
        tags=RegistryTags(layout.lookups(config.state), images.tools),
        drivers=drivers,
        proxy=_proxy(config, wake, stack),
        supervisor=supervisor,
        prober=prober,
        generations=GenerationFolders(layout.vms(config.state)),
        volumes=VolumeFiles(),
        taps=taps,
        host=LocalHost(config.state, drivers, clock),
        ledger=ledger,
        meter=metrics,
        clock=clock,
        tracer=tracer,
    )


def _scrub(config: Config, adapters: Adapters, engine: Engine) -> Coroutine[Any, Any, None]:
    """What reads images again; only after a guest's report if the config says so."""
    speed = config.policy.scrub_mib_per_second
    pace = (speed or PolicyConfig().scrub_mib_per_second) * MIB
    return Scrub(adapters, engine.checks, pace, weekly=bool(speed)).run()


def _taps(config: Config) -> BridgedTaps | NoTaps:
    """The taps, owned by the user or group as which guests run."""
    if not config.policy.bridges:
        return NoTaps()
    kept = config.supervisor == "systemd"
    owner = Owner(gid=group_id()) if kept else Owner(uid=os.geteuid())
    return BridgedTaps(config.state.resolve(), owner)


def _debian_roots(config: Config) -> DebianRoots:
    """Builders of Debian's packages: what they run has more rights than this process."""
    if config.supervisor == "systemd":
        return DebianRoots(by_socket(BUILDER_SOCKET), BUILDER_HOME)
    return own_roots(layout.debian_builder(config.state))


def _proxy(
    config: Config, wake: Callable[[], None], stack: contextlib.AsyncExitStack
) -> ProxyClient:
    """The proxy's client: under systemd a socket unit starts the proxy, otherwise the daemon does."""
    if config.supervisor == "systemd":
        front = ProxyClient(FRONT_FOLDER, wake)
    else:
        folder = layout.proxy_folder(config.state)
        starter = Starter(folder)
        stack.callback(starter.close)
        front = ProxyClient(folder, wake, starter)
    stack.push_async_callback(front.close)
    return front


async def _sampled(
    engine: Engine,
    supervisor: ProcessSupervisor,
    drivers: DriverRegistry,
    metrics: Metrics,
    clock: Clock,
) -> None:
    """Sample counters that only a guest's VMM and its supervisor know, until cancelled."""

    async def ask(vm: VMStatus, timeout: float) -> GuestFigures:
        guests = (guest for guest in supervisor.processes() if guest.instance == vm.instance)
        if (guest := next(guests, None)) is None:
            raise SupervisorError(f"{vm.name}: its guest is gone")
        driver, folder = drivers.of(guest.hypervisor), engine.console(vm.name).parent
        known = await driver.figures(folder, guest.pid, timeout)
        if vm.taps:  # traffic of taps does not pass through the VMM's sockets
            return replace(known, traffic=traffic(vm.taps))
        return replace(
            known, traffic=await supervisor.traffic(InstanceId(vm.instance or ""), timeout)
        )

    sampler = Sampler(engine.status, ask, clock)
    metrics.figures = sampler.figures
    await sampler.run()


async def _tracer(config: Config, clock: Clock, stack: contextlib.AsyncExitStack) -> Tracer:
    """The tracer for the configured endpoint. Raises ConfigError if the extra is not installed."""
    if not config.tracing.endpoint:
        return UNTRACED
    try:
        from reconciler.tracing import otel  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise ConfigError(
            f"tracing.endpoint is set, but OpenTelemetry is not installed: {error}",
            hint="pip install 'microvm-reconciler[tracing]', or remove the key",
        ) from error
    tracer = otel.OtelTracer(otel.over_http(config.tracing.endpoint), clock, own_version())
    stack.push_async_callback(asyncio.to_thread, tracer.close)
    return tracer


def _metrics(config: Config, status: Callable[[], HostStatus], clock: Clock) -> Metrics:
    return Metrics(
        status, version=own_version(), started_wall=clock.now().wall,
        sources=(config.source.name,), components=("planner", "source"),
        sinks=[sink.name for sink in config.notifications],
        disk=(config.state, config.policy.disk_reserve_mib * MIB),
    )  # fmt: skip


SUPERVISORS = {"local": LocalSupervisor, "systemd": SystemdSupervisor}

EMPTY = HostStatus(RevisionStatus(None, None), (), (), suspended=False)


def policy_of(config: Config) -> Policy:
    """The planner's policy, from the config."""
    return Policy(
        state_dir=str(config.state.resolve()),
        prune=config.source.prune,
        max_delete=config.source.max_delete,
        memory_reserve_mib=config.policy.memory_reserve_mib,
        disk_reserve_mib=config.policy.disk_reserve_mib,
        store_max_mib=config.policy.store_max_mib,
        max_builds=config.policy.max_concurrent_builds,
        generations_kept=config.policy.generations_kept,
        max_rollbacks_per_hour=config.policy.max_rollbacks_per_hour,
        max_repairs=config.policy.max_concurrent_repairs,
        bridges=tuple(config.policy.bridges),
    )


def _words(fleet: HostStatus) -> str:
    """The host's status in one line, for `systemctl status`."""
    healthy = sum(vm.healthy for vm in fleet.vms)
    revision = (fleet.revision.observed or "no revision yet")[:12]
    odd = [f"{vm.name}: {vm.why or vm.state}" for vm in fleet.vms if not vm.healthy]
    alerts = "; ".join((*fleet.alerts, *odd[:1]))
    return f"{healthy} of {len(fleet.vms)} VMs healthy, at {revision}" + (alerts and f"; {alerts}")


@contextlib.contextmanager
def _signals(engine: Engine, service: Service) -> Iterator[None]:
    def look() -> None:
        engine.look()
        if engine.ready():
            service.reloading()
            service.ready()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, look)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


async def _until_ended(tasks: list[asyncio.Task[None]]) -> None:
    """Wait for a signal, or until a part of the daemon ends, which is a fault and raised."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    waiter = asyncio.create_task(asked.wait())
    try:
        done, _ = await asyncio.wait([waiter, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if task is not waiter:
                await task  # raises what ended it
    finally:
        waiter.cancel()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
