"""An operator with a small fleet in memory: what the faces and the command line are tested on."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from reconciler.engine.api import ReconcileReport
from reconciler.errors import RequestRefused
from reconciler.explain.image_advice import Advice
from reconciler.explain.image_uses import find_image
from reconciler.model.actions import BuildLayer, StopGuest, StopLadder
from reconciler.model.build_progress import BuildStatus
from reconciler.model.change import AddEvent
from reconciler.model.desired import HealthPolicy, RollbackPolicy, UpdatePolicy, VMSpec
from reconciler.model.event import Event, EventKind
from reconciler.model.image import DebianKernel, KernelSpec
from reconciler.model.layer_kinds.busybox_layer import BusyboxSource
from reconciler.model.layer_kinds.tree_layer import TreeSource
from reconciler.model.layers import LayerSpec
from reconciler.model.names import Digest, GenerationNumber, GroupName, InstanceId, Revision, VMName
from reconciler.model.plan import FieldChange, Plan
from reconciler.model.record import Blocked, Evidence, Generation, VMRecord
from reconciler.model.request import CollectImages, Request
from reconciler.model.revision_result import RevisionRecord
from reconciler.model.source_state import CommitSummary
from reconciler.model.status import (
    GenerationNumbers,
    GroupStatus,
    HostStatus,
    ProbeStatus,
    RevisionStatus,
    SourceStatus,
    VMStatus,
)
from reconciler.model.store_status import (
    ImageCheck,
    ImageUse,
    ImageUses,
    StoreReport,
    StoreStatus,
)
from reconciler.model.waits import Wait
from reconciler.now import Now

OLD = Revision("4f2c9d1ab07e55c3d2a1908f6e7d5c4b3a291807")
NEW = Revision("b81e03f7c6d5a4938271605f4e3d2c1b0a9f8e7d")
WALL = 1_790_000_000.0


class StillClock:
    """A moment that never passes."""

    def now(self) -> Now:
        return Now(boot=1000.0, wall=WALL, boot_id="boot")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds * 0)


def number(value: int) -> GenerationNumber:
    return GenerationNumber(value)


def vm(name: str, **changes: object) -> VMStatus:
    """A VM that is well, but for these changes."""
    well = VMStatus(
        name=VMName(name),
        group=GroupName("frontend"),
        state="running",
        healthy=True,
        sync="synced",
        generation=GenerationNumbers(number(3), number(3), number(3)),
        pid=4242,
        why="",
        digest=Digest("9c56cc51" * 8),
        started_wall=WALL - 5000,
        probe="GET :8080/healthz -> 200",
        revision=OLD,
        restarts=(("rollout", 2), ("crash", 1)),
        ports=(8080,),
    )
    return replace(well, **changes)  # type: ignore[arg-type]


def fleet(*vms: VMStatus, **changes: object) -> HostStatus:
    whole = HostStatus(
        revision=RevisionStatus(NEW, NEW),
        vms=vms,
        groups=(GroupStatus(GroupName("frontend"), "idle", len(vms), 0, 1, 0),),
        suspended=False,
        sources=(SourceStatus("main", "https://git.example/fleet.git", WALL - 3, 0),),
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def spec(name: str) -> VMSpec:
    return VMSpec(
        name=VMName(name),
        group=GroupName("frontend"),
        labels=(),
        hypervisor="qemu",
        vcpu=1,
        memory_mib=256,
        kernel=KernelSpec.of("debian", DebianKernel()),
        format="erofs",
        layers=(LayerSpec.of(BusyboxSource(), "erofs"),),
        volumes=(),
        networks=(),
        health=HealthPolicy(),
        update=UpdatePolicy(),
        rollback=RollbackPolicy(),
    )


def record(name: str) -> VMRecord:
    """Two good generations and one that failed."""
    evidence = Evidence("probe-failed", probe="GET :8080/healthz -> 503", console=("nginx: emerg",))
    bad = Digest("0badcafe" * 8)
    made = [
        Generation(
            VMName(name), number(n), Digest(f"{n}c56cc51" * 8), OLD, spec(name),
            WALL - 86_400 * (4 - n), "committed", WALL - 86_000 * (4 - n), "healthy for 5 s",
        )
        for n in (1, 2)
    ]  # fmt: skip
    failed = Generation(
        VMName(name), number(3), bad, NEW, spec(name), WALL - 300, "condemned", WALL - 240,
        "its checks failed 3 times in a row", evidence,
    )  # fmt: skip
    return VMRecord(
        name=VMName(name),
        group=GroupName("frontend"),
        generations=(*made, failed),
        next_number=number(4),
        blocked=(Blocked(bad, number(3), failed.reason, 1, WALL - 240, WALL - 240),),
    )


def busy_plan() -> Plan:
    web, api = VMName("web"), VMName("api")
    layer = LayerSpec.of(TreeSource("1a2b3c", "./web"), "erofs")
    ladder = StopLadder(30.0)
    return Plan(
        actions=(
            BuildLayer(layer, "web wants it"),
            StopGuest(api, InstanceId("api-2-aa"), ladder, "generation 3 replaces generation 2"),
        ),
        waits=(
            Wait("image", web, "tree ./web is not built yet"),
            Wait("soak", VMName("db"), "healthy for 2 s of 5 s", 1003.0),
        ),
        changes=(
            AddEvent(Event("guest-stopping", "api: generation 2: an update", WALL, api)),
            AddEvent(
                Event(
                    "group-held",
                    "group backend is held: db failed",
                    WALL,
                    group=GroupName("backend"),
                    severity="error",
                )
            ),
        ),
        wake_at=1003.0,
        differences={
            web: (
                FieldChange(
                    "spec.store.layers[1]", "tree ./web 1a2b3c4d", "tree ./web 5e6f7a8b", "rebuild"
                ),
                FieldChange(
                    "spec.store.layers[0]",
                    "debian bookworm 11111111",
                    "debian bookworm 22222222",
                    "rebuild",
                    inside=("nginx 1 -> 2\x1b[2J<b>",),
                ),
                FieldChange("spec.health.period", "10.0", "5.0", "in place"),
            ),
            api: (FieldChange("spec.memory", "256MiB", "512MiB", "restart"),),
        },
    )


@dataclass
class FakeOperator:
    """Satisfies `Operator`; each answer can be set, and `failure` is raised instead of any."""

    console_path: Path
    fleet: HostStatus = field(default_factory=lambda: fleet(vm("db"), vm("web")))
    the_plan: Plan = field(default_factory=Plan)
    report: ReconcileReport = field(default_factory=lambda: ReconcileReport("converged", NEW, ""))
    requests: list[Request] = field(default_factory=list)
    askers: list[str] = field(default_factory=list)
    reconciles: list[tuple[bool, float]] = field(default_factory=list)
    subjects: list[str | None] = field(default_factory=list)
    refs: list[str | None] = field(default_factory=list)
    happened: list[Event] = field(default_factory=list)
    failure: Exception | None = None
    asked: dict[VMName, tuple[ProbeStatus, ...]] = field(default_factory=dict)
    history: tuple[CommitSummary, ...] = ()
    tips: list[tuple[str, ...]] = field(default_factory=list)
    ended: tuple[RevisionRecord, ...] = ()
    store: StoreReport = StoreReport((), StoreStatus())
    later: tuple[StoreReport, ...] = ()
    """What the store is at the next questions."""
    uses: tuple[ImageUse, ...] = ()
    advised: tuple[Advice, ...] = ()
    checks: list[ImageCheck] = field(default_factory=list)
    alive: bool = True
    is_ready: bool = True
    hang: bool = False
    news: asyncio.Event = field(default_factory=asyncio.Event)
    asked_to_reconcile: asyncio.Event = field(default_factory=asyncio.Event)

    def _perhaps_fail(self) -> None:
        if self.failure is not None:
            raise self.failure

    def status(self) -> HostStatus:
        self._perhaps_fail()
        return self.fleet

    async def plan(self, ref: str | None) -> Plan:
        self._perhaps_fail()
        self.refs.append(ref)
        return self.the_plan

    async def request(self, request: Request, by: str = "") -> str:
        self._perhaps_fail()
        self.askers.append(by)
        self.requests.append(request)
        if isinstance(request, CollectImages):
            self.store = replace(
                self.store, images=tuple(image for image in self.store.images if image.vms)
            )
        return f"{type(request).__name__.lower()} is noted"

    async def reconcile(
        self, *, wait: bool, timeout: float, subject: str | None = None
    ) -> ReconcileReport:
        self._perhaps_fail()
        self.reconciles.append((wait, timeout))
        self.subjects.append(subject)
        self.asked_to_reconcile.set()
        if self.hang:
            await asyncio.Event().wait()
        return self.report

    def vm_record(self, vm: VMName) -> VMRecord:
        self._perhaps_fail()
        names = [status.name for status in self.fleet.vms]
        if vm not in names:
            near = ", ".join(difflib.get_close_matches(vm, names)) or "none is near"
            raise RequestRefused(f"no VM is called {vm}", hint=f"did you mean: {near}")
        return record(vm)

    def difference(
        self, vm: VMName, a: GenerationNumber, b: GenerationNumber
    ) -> tuple[FieldChange, ...]:
        for wanted in (a, b):
            if self.vm_record(vm).generation(wanted) is None:
                raise RequestRefused(f"{vm} has no generation {wanted}", hint="it has: 1, 2, 3")
        inside = ("nginx 1 -> 2\x1b[2J",) if b > 2 else ()
        change = FieldChange("spec.memory", "256MiB", "512MiB", "restart", inside=inside)
        return () if a == b else (change,)

    def advice(self, vm: VMName) -> tuple[Advice, ...]:
        assert vm in {status.name for status in self.fleet.vms}
        return self.advised

    async def events(self, after: int, limit: int) -> list[Event]:
        self._perhaps_fail()
        return [event for event in self.happened if event.sequence > after][:limit]

    async def latest_events(self, limit: int) -> list[Event]:
        self._perhaps_fail()
        return list(self.happened)[-limit:]

    async def wait_event(self, after: int, timeout: float) -> None:
        if any(event.sequence > after for event in self.happened):
            return
        self.news.clear()
        try:
            async with asyncio.timeout(timeout):
                await self.news.wait()
        except TimeoutError:
            return

    def happen(self, kind: str, message: str) -> None:
        """Also of a kind that only another version knows."""
        sequence = len(self.happened) + 1
        self.happened.append(
            Event(cast(EventKind, kind), message, WALL, VMName("web"), sequence=sequence)
        )
        self.news.set()

    def console(self, vm: VMName, *, beside: bool = False) -> Path:
        self.vm_record(vm)
        return self.console_path.with_name("beside.log") if beside else self.console_path

    def probes(self, vm: VMName) -> tuple[ProbeStatus, ...]:
        return self.asked.get(vm, ())

    async def commits(self, tips: Sequence[str], most: int) -> tuple[CommitSummary, ...]:
        self._perhaps_fail()
        self.tips.append(tuple(tips))
        return self.history[:most]

    def builds(self, vm: VMName) -> tuple[BuildStatus, ...]:
        return tuple(one for one in self.fleet.builds if vm in one.vms)

    def results(self) -> tuple[RevisionRecord, ...]:
        return self.ended

    def images(self, vm: VMName | None = None) -> StoreReport:
        self._perhaps_fail()
        if self.later:
            self.store, self.later = self.later[0], self.later[1:]
        if vm is not None:
            self.vm_record(vm)
        return self.store

    def image_uses(self, name: str) -> ImageUses:
        self._perhaps_fail()
        found = find_image(name, self.store)
        return ImageUses(found, self.uses if found.vms else ())

    async def check_images(self, name: str | None) -> AsyncGenerator[ImageCheck, None]:
        for check in self.checks:
            if name in (None, check.title):
                yield check

    def live(self) -> bool:
        return self.alive

    def unready(self) -> str:
        return "" if self.is_ready else "the first pass is not done"
