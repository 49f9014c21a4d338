"""The engine: wakes passes, has the source looked at, and answers what people ask.

a push, a guest that died, a deadline, a request
|  wake: one slot, no instruction in it
v
one pass at a time  ->  sleeps until the next wake, or the plan's `wake_at`
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from pathlib import Path

from reconciler.engine.api import ReconcileReport
from reconciler.engine.build_views import BuildViews
from reconciler.engine.execute import end_interrupted
from reconciler.engine.image_checks import ImageChecks
from reconciler.engine.image_views import ImageViews
from reconciler.engine.interfaces import Adapters
from reconciler.engine.reconcile_pass import Reconciler
from reconciler.engine.source_poller import SourcePoller
from reconciler.engine.workers import Workers
from reconciler.errors import (
    LedgerError,
    ReconcilerError,
    RequestRefused,
)
from reconciler.explain.image_advice import Advice
from reconciler.explain.image_uses import to_read
from reconciler.explain.vm_status import Known, explain
from reconciler.host import layout
from reconciler.model.build_progress import BuildStatus
from reconciler.model.event import Event
from reconciler.model.image_tags import as_meant
from reconciler.model.machine import Slot, other
from reconciler.model.names import GenerationNumber, Revision, VMName
from reconciler.model.plan import FieldChange, Plan
from reconciler.model.policy import Policy
from reconciler.model.record import VMRecord
from reconciler.model.request import AcceptRewrite, Request
from reconciler.model.revision_result import RevisionRecord, RevisionResult
from reconciler.model.source_state import CommitSummary
from reconciler.model.status import HostStatus, ProbeStatus
from reconciler.model.store_status import ImageCheck, ImageUses, StoreReport
from reconciler.planning.diff import differences
from reconciler.planning.planner import plan
from reconciler.planning.results.revision_results import (
    beside,
    entry_of,
    fleet_of,
    judge_revision,
    judge_subject,
)
from reconciler.requests.answer import answer, find_vm
from reconciler.requests.image_store import rot_found
from reconciler.requests.result import signed

log = logging.getLogger(__name__)

LONGEST_SLEEP = 30.0
"""Seconds between passes when nothing asks for one: a wake that got lost costs no more."""
DRIFTS = {"guest-crashed": "guest", "image-lost": "image", "image-rotten": "image"}
"""Events of what left the desired state by itself."""
STALLED = 120.0
"""Seconds without a tick after which a part of the daemon counts as hung."""


class Engine:
    """What the daemon runs and the listeners ask; satisfies `Operator`."""

    def __init__(self, adapters: Adapters, policy: Policy) -> None:
        self._adapters = adapters
        self._policy = policy
        self._awake = asyncio.Event()
        self._news = asyncio.Condition()
        self._sequence = 0
        self._lock = asyncio.Lock()
        self._workers = Workers(adapters.clock, self.wake)
        self._reconciler = Reconciler(adapters, policy, self._workers)
        self._looking = SourcePoller(
            adapters, self._reconciler, self._lock, self.wake, self._first_pass,
            self._tick, self._looks,
        )  # fmt: skip
        self.checks = ImageChecks(adapters, self._rotten)
        self._images = ImageViews(adapters, self._reconciler, policy)
        self._builds = BuildViews(adapters, self._reconciler)
        self._promised: dict[str, float] = {}
        """By when each part must tick again, or counts as hung."""
        self._known: Known = {}
        self._status: tuple[tuple[object, ...], HostStatus] | None = None

    # Life

    async def run(self) -> None:
        """Load what is remembered, then run until cancelled. Guests are left as they are."""
        adapters = self._adapters
        ended = await end_interrupted(adapters)
        if ended:
            log.info("a former daemon was interrupted", extra={"fields": {"intents": ended}})
        await adapters.supervisor.adopt()
        await self._load_last()
        unsubscribe = adapters.ledger.subscribe(self._on_event)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._passes())
                group.create_task(self._looking.run())
        finally:
            unsubscribe()
            await self._workers.close()

    def wake(self) -> None:
        """Something may have changed. Callable any number of times; passes coalesce."""
        self._awake.set()

    def look(self) -> None:
        """The source may have changed: look at it now."""
        self._looking.look()

    async def _load_last(self) -> None:
        """The last valid revision, from the mirror: the source may be away (law 7)."""
        revision = self._adapters.ledger.record().source.revision
        if revision is None:
            return
        try:
            self._reconciler.desired = await self._adapters.source.load(revision)
        except ReconcilerError as error:
            log.warning(
                "the last revision cannot be loaded", extra={"fields": {"error": str(error)}}
            )

    async def _passes(self) -> None:
        while True:
            self._awake.clear()
            due: float | None = None
            async with self._lock:
                with contextlib.suppress(LedgerError):  # which is known by now
                    await self._adapters.ledger.check()
                try:
                    due = await self._reconciler.run_pass()
                except Exception:  # a pass must not end the daemon: count it, look again
                    log.exception("a pass failed in an unforeseen way")
                    self._adapters.meter.panicked()
                    due = self._adapters.clock.now().boot + 1.0
            async with self._news:
                self._news.notify_all()
            now = self._adapters.clock.now().boot
            sleep = LONGEST_SLEEP if due is None else min(LONGEST_SLEEP, max(0.0, due - now))
            self._tick("planner", sleep)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(sleep):
                    await self._awake.wait()

    async def _first_pass(self) -> None:
        async with self._news:
            await self._news.wait_for(self.ready)

    def _tick(self, component: str, sleep: float) -> None:
        now = self._adapters.clock.now()
        self._promised[component] = now.boot + sleep + STALLED
        self._adapters.meter.component_ticked(component, now.wall)

    def _looks(self, longest: float) -> None:
        """A look takes its time, though its part had promised to be back before."""
        by = self._adapters.clock.now().boot + longest + STALLED
        self._promised["source"] = max(by, self._promised.get("source", by))

    def _on_event(self, event: Event) -> None:
        self._sequence = max(self._sequence, event.sequence)
        level = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
        fields = {
            "event": event.kind, "vm": event.vm, "group": event.group,
            "generation": event.generation, "revision": (event.revision or "")[:12] or None,
        }  # fmt: skip
        log.log(level[event.severity], event.message, extra={"fields": fields})
        if (drift := DRIFTS.get(event.kind)) is not None:
            self._adapters.meter.drifted(drift)

    # Operator

    def status(self) -> HostStatus:
        passed, record = self._reconciler.passed, self._adapters.ledger.record()
        source = self._adapters.source.status()
        # The newest desired state, also before a pass took it up: a status that names a revision
        # must not call a VM synced with the one before.
        desired = self._reconciler.desired
        failing, store = self._adapters.ledger.alerts, self._images.status()
        key = (passed, record, self._reconciler.alerts, failing, source, desired, store)
        former = self._status
        if former is None or any(a is not b for a, b in zip(former[0], key, strict=True)):
            fleet = explain(
                desired,
                passed.observed if passed else None,
                record,
                passed.plan if passed else Plan(),
                self._adapters.clock.now(),
                known=self._known,
            )
            alerts = (*self._reconciler.alerts, *failing, *store.warnings)
            found = replace(fleet, sources=(source,), alerts=alerts, store=store)
            self._status = former = (key, found)
        return self._builds.added_to(former[1])

    def builds(self, vm: VMName) -> tuple[BuildStatus, ...]:
        return self._builds.of(vm)

    async def plan(self, ref: str | None) -> Plan:
        passed = self._reconciler.passed
        if passed is None:
            raise RequestRefused("the first pass is not done", hint="ask again in a moment")
        if ref is None:
            return self._images.explained(passed.plan)
        record, now = self._adapters.ledger.record(), self._adapters.clock.now()
        desired = as_meant(await self._adapters.source.preview(ref), record.store.tags)
        return self._images.explained(plan(desired, passed.observed, record, now, self._policy))

    async def request(self, request: Request, by: str = "") -> str:
        async with self._lock:
            now, record = self._adapters.clock.now(), self._adapters.ledger.record()
            answered = signed(
                answer(request, record, self._reconciler.desired, now, prune=self._policy.prune), by
            )
            await self._adapters.ledger.write(answered.changes)
        self.wake()
        if isinstance(request, AcceptRewrite):
            self.look()
        return answered.words

    async def reconcile(
        self, *, wait: bool, timeout: float, subject: str | None = None
    ) -> ReconcileReport:
        await self._looking.fetch()
        refused = self._adapters.ledger.record().source.rejection
        if refused is not None:  # what was desired before may be well: that is not what was asked
            why = f"it is refused, what was desired before stays: {refused.problems[0]}"
            return ReconcileReport("failed", refused.revision, why)
        asked = self._adapters.ledger.record().source.revision
        if wait:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._ended(asked, subject)
        found, beside = self._judge(asked, subject)
        return ReconcileReport(
            found.result, found.revision, found.why, found.vms, found.changed, found.healthy, beside
        )

    def _judge(
        self, asked: Revision | None, subject: str | None
    ) -> tuple[RevisionResult, tuple[str, ...]]:
        """The result of the revision that was asked about, and trouble that it did not cause."""
        passed, desired = self._reconciler.passed, self._reconciler.desired
        if passed is None or desired is None:
            return RevisionResult(asked, "working", "no revision was loaded yet"), ()
        record = self._adapters.ledger.record()
        fleet = fleet_of(desired, passed.observed, record, passed.plan, self._adapters.clock.now())
        entry = entry_of(record.source, desired, asked)
        seen = passed.desired is desired
        if subject is None:
            found = judge_revision(fleet, entry)
        else:
            found = judge_subject(fleet, subject, record.source)
        if not seen and found.result not in ("unchanged", "superseded"):
            found = replace(found, result="working", why="it was not looked at yet", ended=False)
        return found, beside(fleet, entry, record.source) if seen and subject is None else ()

    async def _ended(self, asked: Revision | None, subject: str | None) -> None:
        """Until a pass over the present desired state finds that nothing asked about moves any more."""
        async with self._news:
            while True:
                passed = self._reconciler.passed
                if passed is not None and not self._awake.is_set():
                    found, _ = self._judge(asked, subject)
                    if found.ended:
                        return
                if passed is not None and not passed.plan.idle:
                    # Only a pass that finds nothing to do says that all is done, and if this one
                    # wrote but started nothing, then nobody else asks for another.
                    self.wake()
                await self._news.wait()

    def vm_record(self, vm: VMName) -> VMRecord:
        return find_vm(self._adapters.ledger.record(), vm, self._reconciler.desired)

    def difference(
        self, vm: VMName, a: GenerationNumber, b: GenerationNumber
    ) -> tuple[FieldChange, ...]:
        record = self.vm_record(vm)
        found = []
        for number in (a, b):
            generation = record.generation(number)
            if generation is None:
                known = ", ".join(str(g.number) for g in record.generations) or "none"
                raise RequestRefused(f"{vm} has no generation {number}", hint=f"it has: {known}")
            found.append(generation.spec)
        return self._images.inside(differences(found[0], found[1]))

    async def events(self, after: int, limit: int) -> list[Event]:
        return await self._adapters.ledger.events(after, limit)

    async def latest_events(self, limit: int) -> list[Event]:
        return await self._adapters.ledger.latest_events(limit)

    async def wait_event(self, after: int, timeout: float) -> None:  # a bound of the question
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout), self._news:
                await self._news.wait_for(lambda: self._sequence > after)

    def console(self, vm: VMName, *, beside: bool = False) -> Path:
        record, home = self.vm_record(vm), self._adapters.generations.folder(vm)
        slots = {p.instance: p.slot for p in self._adapters.supervisor.processes() if p.vm == vm}
        serving, candidate = record.start, record.candidate
        slot: Slot = 1
        if serving is not None and serving.instance in slots:
            slot = slots[serving.instance]
        elif candidate is not None and candidate.instance in slots:
            slot = other(slots[candidate.instance])
        slot = other(slot) if beside else slot
        return layout.console(layout.guest_folder(home, slot))

    def probes(self, vm: VMName) -> tuple[ProbeStatus, ...]:
        now = self._adapters.clock.now()
        return tuple(
            ProbeStatus(now.wall - (now.boot - one.boot), one.result, one.seconds, one.generation)
            for one in self._adapters.prober.rounds(vm)
        )

    async def commits(self, tips: Sequence[str], most: int) -> tuple[CommitSummary, ...]:
        return await self._adapters.source.commits(tips, most)

    def results(self) -> tuple[RevisionRecord, ...]:
        return self._adapters.ledger.record().source.revisions

    def images(self, vm: VMName | None = None) -> StoreReport:
        return self._images.report(vm)

    def advice(self, vm: VMName) -> tuple[Advice, ...]:
        return self._images.advice(vm)

    def image_uses(self, name: str) -> ImageUses:
        return self._images.uses(name)

    def check_images(self, name: str | None) -> AsyncGenerator[ImageCheck, None]:
        return self.checks.read_all(to_read(self.images(), name))

    async def _rotten(self, check: ImageCheck) -> None:
        async with self._lock:
            passed, record = self._reconciler.passed, self._adapters.ledger.record()
            if passed is not None:
                now = self._adapters.clock.now()
                with contextlib.suppress(LedgerError):  # which is known by then
                    await self._adapters.ledger.write(
                        rot_found(check, passed.observed, record, now)
                    )
        self.wake()

    def live(self) -> bool:
        now = self._adapters.clock.now().boot
        return bool(self._promised) and all(now < by for by in self._promised.values())

    def ready(self) -> bool:
        """Whether state is loaded and the first pass is done; from then on it stays so."""
        return self._reconciler.passed is not None

    def unready(self) -> str:
        if not self.ready():
            return "the first pass is not done"
        return "; ".join(self._adapters.ledger.alerts)
