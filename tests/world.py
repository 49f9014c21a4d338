"""The real planner and the real engine over fakes, driven pass by pass in virtual time."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Self

from reconciler.engine.execute import end_interrupted
from reconciler.engine.guarded_ledger import GuardedLedger, WholeLedger
from reconciler.engine.interfaces import Adapters
from reconciler.engine.reconcile_pass import Reconciler
from reconciler.engine.workers import Workers
from reconciler.explain.convergence import settled as is_settled
from reconciler.explain.vm_status import Known, explain
from reconciler.model.checks import HttpCheck, Purpose
from reconciler.model.desired import (
    DesiredState,
    GroupSpec,
    HealthPolicy,
    RestartPolicy,
    RollbackPolicy,
    ShortOfMemory,
    UpdatePolicy,
    VMSpec,
    VolumeSpec,
)
from reconciler.model.image import DebianKernel, DiskImage, KernelSpec
from reconciler.model.layer_kinds.image_layer import ImageSource
from reconciler.model.layer_kinds.tree_layer import TreeSource
from reconciler.model.layers import LayerSpec
from reconciler.model.machine import ANY_ADDRESS, ROOT, HostPort, PortForward, Tap, UserNetwork
from reconciler.model.names import Digest, GenerationNumber, GroupName, Revision, VMName, digest_of
from reconciler.model.observed import HostFacts, Observed
from reconciler.model.policy import Policy
from reconciler.model.record import Generation, Hold, VMRecord
from reconciler.model.request import Request
from reconciler.model.status import HostStatus
from reconciler.requests.answer import answer
from reconciler.spans import UNTRACED, Tracer
from tests.fakes import (
    FakeClock,
    FakeFront,
    FakeHost,
    FakeHypervisor,
    FakeImages,
    FakeLedger,
    FakeMeter,
    FakeSource,
    FakeTags,
    FakeTaps,
    FakeVolumes,
    Faults,
)

KERNEL = KernelSpec.of("debian", DebianKernel())
ALWAYS = RestartPolicy()
CHECK = HttpCheck(port=8080, path="/healthz", purpose="liveness")


def vm(
    name: str, content: str = "v1", *, group: str = "", after: tuple[str, ...] = (),
    memory: int = 128, port: int = 0, min_healthy: float = 2.0, epoch: int = 1,
    mode: str = "auto", labels: dict[str, str] | None = None, snapshot: bool = False,
    handover: bool = False, short_of_memory: ShortOfMemory = "wait",
    moved_from: str = "", bridge: str = "", tap: str = "", address: str = "",
    path: str = CHECK.path,
    checked: bool = True, purpose: Purpose = "liveness", restart: RestartPolicy = ALWAYS,
    verity: bool = False,
) -> VMSpec:  # fmt: skip
    """A small VM whose layer is named by `content`."""
    source = TreeSource(digest_of([name, content])[:40], f"./{name}")
    layer = LayerSpec.of(source, "erofs", verity=verity)
    own = zlib.crc32(name.encode())  # two VMs have the same port, and each an address of its own
    apart = f"127.0.{own % 256}.{own // 256 % 256}" if handover else "127.0.0.1"
    forwards = (
        (PortForward(port or CHECK.port, 80, address=address or apart),) if port or handover else ()
    )
    spec = VMSpec(
        name=VMName(name),
        group=GroupName(group),
        labels=tuple(sorted((labels or {}).items())),
        hypervisor="qemu",
        vcpu=1,
        memory_mib=memory,
        kernel=KERNEL,
        format="erofs",
        layers=(layer,),
        volumes=(VolumeSpec("data", "/data", 64),) if snapshot else (),
        networks=() if bridge else (UserNetwork("52:54:00:00:00:01", forwards),),
        taps=(Tap(tap or f"t0-{name}", bridge, "02:00:00:00:00:01", 0),) if bridge else (),
        health=HealthPolicy(
            checks=(replace(CHECK, port=port or CHECK.port, purpose=purpose, path=path),)
            if checked
            else (),
            startup_deadline=30.0,
            min_healthy_time=min_healthy,
            period=5.0,
        ),
        update=UpdatePolicy(
            after=tuple(VMName(a) for a in after),
            stop_timeout=5.0,
            snapshot_volumes=snapshot,
            strategy="handover" if handover else "restart",
            short_of_memory=short_of_memory,
        ),
        rollback=RollbackPolicy(mode="manual" if mode == "manual" else "auto", data_epoch=epoch),
        moved_from=VMName(moved_from) if moved_from else None,
        restart=restart,
    )
    return replace(spec, digest=Digest(spec.compute_digest()))


def changed(
    spec: VMSpec,
    *,
    health: Mapping[str, Any] | None = None,
    update: Mapping[str, Any] | None = None,
    **fields: Any,
) -> VMSpec:
    """A VM with other fields, also of its health and update policies, and the digest that follows."""
    spec = replace(
        spec,
        health=replace(spec.health, **(health or {})),
        update=replace(spec.update, **(update or {})),
        **fields,
    )
    return replace(spec, digest=Digest(spec.compute_digest()))


def on_a_disk(spec: VMSpec, sha256: str) -> VMSpec:
    """The same VM on a disk that firmware boots, which keeps what is written to it on a volume."""
    image = DiskImage(ImageSource(sha256, "/srv/images/app.qcow2"), "qcow2", "bios")
    volumes = (VolumeSpec("root", ROOT, 64),)
    return changed(spec, kernel=KernelSpec.of("app", image), volumes=volumes)


def state(*vms: VMSpec, groups: tuple[GroupSpec, ...] = (), revision: str = "") -> DesiredState:
    """A revision; its id is made of its content unless given."""
    named = revision or digest_of([[v.name, v.rollout_key, list(v.labels)] for v in vms])[:40]
    return DesiredState(
        Revision(named), {v.name: v for v in vms}, {group.name: group for group in groups}
    )


def listeners(*adapters: int, address: str = ANY_ADDRESS) -> frozenset[HostPort]:
    """For the host's facts: somebody listens there."""
    return frozenset(HostPort(address, port) for port in adapters)


class World:
    """A host in memory. `restart` throws the engine away and keeps all that outlives it."""

    def __init__(self, policy: Policy | None = None, durable: WholeLedger | None = None) -> None:
        self.clock = FakeClock()
        self.tracer: Tracer = UNTRACED
        self.policy = policy or Policy(
            state_dir="/state", memory_reserve_mib=0, disk_reserve_mib=0, bridges=("br0",)
        )
        self.faults = Faults(self.clock)
        self.front = FakeFront(self.clock, self.faults)
        self.taps = FakeTaps(self.faults)
        self.hypervisor = FakeHypervisor(
            clock=self.clock, faults=self.faults, front=self.front, taps=self.taps
        )
        self.taps.used = lambda: {
            tap.name
            for guest in self.hypervisor.guests.values()
            if guest.process.alive
            for tap in guest.machine.taps
        }
        self.images = FakeImages(self.faults)
        self.tags = FakeTags(self.faults)
        self.ledger = FakeLedger(self.faults)
        self.durable: WholeLedger = durable or self.ledger
        """What remembers: the fake, unless a test brings the real one."""
        self.source = FakeSource()
        self.host = FakeHost(self.hypervisor.listening)
        self.meter = FakeMeter()
        self.known: Known = {}
        self.lowest: dict[str, int] = {}
        self.on_pass: Callable[[], None] = lambda: None
        self._boot()

    @classmethod
    async def settled(cls, desired: DesiredState, policy: Policy | None = None) -> Self:
        """A host that runs what is desired."""
        world = cls(policy)
        await world.push(desired)
        await world.settle()
        return world

    def _boot(self) -> None:
        hypervisor = self.hypervisor
        self.guard = GuardedLedger(self.durable, self.meter, self.clock)
        self.adapters = Adapters(
            source=self.source, images=self.images, inventory=self.images, tags=self.tags, drivers=hypervisor, proxy=self.front, supervisor=hypervisor,
            prober=hypervisor, generations=hypervisor, volumes=FakeVolumes(hypervisor), taps=self.taps, host=self.host, ledger=self.guard,
            meter=self.meter, clock=self.clock, tracer=self.tracer,
        )  # fmt: skip
        self.workers = Workers(self.clock, lambda: None)
        self.reconciler = Reconciler(self.adapters, self.policy, self.workers)

    async def restart(self) -> None:
        """As after `kill -9` of the daemon and a fresh start."""
        await self.workers.close()
        self.hypervisor.forget_answers()
        self._boot()
        await end_interrupted(self.adapters)
        await self.hypervisor.adopt()
        revision = self.durable.record().source.revision
        if revision is not None:
            self.reconciler.desired = await self.source.load(revision)

    async def push(self, desired: DesiredState) -> bool:
        self.source.push(desired)
        return await self.reconciler.accept(desired)

    async def ask(self, request: Request) -> str:
        answered = answer(
            request, self.durable.record(), self.reconciler.desired, self.clock.now(),
            prune=self.policy.prune,
        )  # fmt: skip
        await self.durable.write(answered.changes)
        return answered.words

    async def step(self) -> None:
        """One pass, and let what it began make some way."""
        await self.reconciler.run_pass()
        unsound = [alert for alert in self.reconciler.alerts if alert.startswith("law")]
        assert not unsound, unsound
        self.on_pass()
        for _ in range(8):
            await asyncio.sleep(0)
        assert not self.hypervisor.broken, self.hypervisor.broken
        assert not self.taps.broken, self.taps.broken
        self.hypervisor.probe()

    async def run(self, seconds: float) -> None:
        """Passes in virtual time, whatever there is to do."""
        until = self.clock.now().boot + seconds
        while self.clock.now().boot < until:
            await self.step()
            self.clock.advance(0.5)

    async def settle(self, seconds: float = 300.0) -> None:
        """Passes in virtual time until nothing is left to do by itself."""
        until = self.clock.now().boot + seconds
        quiet = 0
        while self.clock.now().boot < until:
            await self.step()
            passed = self.reconciler.passed
            calm = passed is not None and is_settled(passed.observed, passed.plan)
            calm = calm and not self.workers.outcomes() and not self.workers._tasks
            quiet = quiet + 1 if calm else 0
            if quiet == 2:  # what the last step did was seen, too
                return
            self.clock.advance(0.5)
        raise AssertionError(f"not settled after {seconds}s: {self.status().waits}")

    @property
    def alerts(self) -> tuple[str, ...]:
        return (*self.reconciler.alerts, *self.guard.alerts)

    def status(self) -> HostStatus:
        passed = self.reconciler.passed
        assert passed is not None
        told = (
            passed.desired, passed.observed, self.durable.record(), passed.plan, self.clock.now()
        )  # fmt: skip
        found = explain(*told, known=self.known)
        assert found == explain(*told), "what was told before is told wrongly"
        return found

    def generation(self, name: str, number: int) -> Generation:
        found = self.record(name).generation(GenerationNumber(number))
        assert found is not None
        return found

    def last_good(self, name: str) -> Generation:
        good = self.record(name).last_good
        assert good is not None
        return good

    def hold(self, group: str) -> Hold | None:
        return self.durable.record().groups[GroupName(group)].hold

    def record(self, name: str) -> VMRecord:
        return self.durable.record().vms[VMName(name)]

    def why(self, name: str) -> str:
        return next(v.why for v in self.status().vms if v.name == name)

    def events(self, kind: str) -> list[str]:
        return [e.message for e in self.ledger.history if e.kind == kind]


def observed_on(host: HostFacts) -> Observed:
    """A host that has nothing yet."""
    return Observed(guests={}, layers=frozenset(), kernels=frozenset(), host=host)
