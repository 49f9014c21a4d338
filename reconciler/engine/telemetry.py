"""What a pass is worth telling: to the meter in numbers, to the tracer as spans of the commit."""

from __future__ import annotations

from collections import Counter

from reconciler.engine.downtime import DowntimeTracker
from reconciler.engine.interfaces import Adapters
from reconciler.model.actions import ACTION_OF
from reconciler.model.change import AddEvent
from reconciler.model.desired import DesiredState
from reconciler.model.event import Event
from reconciler.model.image import BuiltImage
from reconciler.model.names import VMName
from reconciler.model.observed import Collected, Guest, Observed, Outcome
from reconciler.model.plan import Plan
from reconciler.model.record import Record, VMRecord


class Measures:
    def __init__(self, adapters: Adapters) -> None:
        self._adapters = adapters
        self._gaps = DowntimeTracker()

    def passed(
        self, record: Record, decided: Plan, observed: Observed, desired: DesiredState | None,
        seconds: float,
    ) -> None:  # fmt: skip
        """A pass was carried out; `record` is as it was before."""
        meter = self._adapters.meter
        revision = desired.revision if desired is not None else ""
        result = "noop" if decided.idle else "changed"
        if decided.idle and decided.waits:
            kinds = {wait.kind for wait in decided.waits}
            result = "suspended" if kinds == {"suspended"} else "blocked"
        meter.pass_ended(result, seconds)
        meter.began(Counter(a.kind for a in decided.actions if a.kind in ACTION_OF))
        for gap in self._gaps.ended(record, observed, self._adapters.clock.now()):
            meter.gap_ended(gap.cause, gap.seconds)
        self._operations(observed)
        if revision and not decided.idle:
            self._adapters.tracer.span(revision, "plan", seconds)
        for outcome in observed.outcomes:
            self._outcome(outcome, revision)
        for change in decided.changes:
            if isinstance(change, AddEvent):
                self._event(record, change.event, observed, revision)

    def _operations(self, observed: Observed) -> None:
        now = self._adapters.clock.now()
        oldest = min((one.since_boot for one in observed.busy.values()), default=None)
        wall = now.wall - (now.boot - oldest) if oldest is not None else 0.0
        self._adapters.meter.operating(len(observed.busy), wall)

    def _outcome(self, outcome: Outcome, revision: str) -> None:
        meter, tracer = self._adapters.meter, self._adapters.tracer
        error = outcome.error or ""
        action, result = ACTION_OF[outcome.kind], outcome.result
        if action.scope == "image":
            differs = isinstance(result, BuiltImage) and bool(result.differs)
            made = "differs" if differs else "built"
            meter.build_ended("failed" if error else made, outcome.seconds, revision)
            tracer.span(revision, "build", outcome.seconds, outcome.subject, error)
        elif action.scope == "store":
            freed = result.freed_bytes if isinstance(result, Collected) else 0
            meter.collected(freed, failed=bool(error))
        else:
            tracer.span(revision, outcome.kind, outcome.seconds, outcome.subject, error)
            if action.phase is not None:
                meter.phase_ended(action.phase, outcome.seconds, revision)

    def _event(self, record: Record, event: Event, observed: Observed, desired: str) -> None:
        """A verdict is counted for the revision that was judged, all else for the desired one."""
        meter, revision = self._adapters.meter, event.revision or desired
        match event.kind:
            case "generation-committed":
                meter.rollout_ended("succeeded")
                self._watched(event, observed, revision)
            case "generation-condemned":
                meter.rollout_ended("failed")
                self._watched(event, observed, revision, self._reason(event))
            case "rolled-back":
                self._went_back(record, event, "succeeded", revision)
                self._watched(event, observed, revision)
            case "quarantined":
                self._went_back(record, event, "failed", self._condemned(event) or desired)
            case "checks-accepted":
                meter.check_trial_ended("succeeded")
            case "checks-condemned":
                meter.check_trial_ended("failed")
            case "revision-applied":
                seen = record.source.first_seen_wall
                seconds = max(0.0, self._adapters.clock.now().wall - seen)
                meter.revision_running(seconds, desired)
                self._adapters.tracer.commit_ended(desired, seen, "applied")
            case _:
                pass

    def _vm(self, event: Event) -> VMRecord | None:
        """As the pass left it."""
        return self._adapters.ledger.record().vms.get(event.vm) if event.vm is not None else None

    def _reason(self, event: Event) -> str:
        """Why a generation was condemned."""
        vm, number = self._vm(event), event.generation
        generation = vm.generation(number) if vm is not None and number is not None else None
        return generation.reason if generation is not None else event.message

    def _condemned(self, event: Event) -> str:
        """The revision of the VM's newest condemned generation; empty without one."""
        vm = self._vm(event)
        judged = [g.revision for g in vm.generations if g.verdict == "condemned"] if vm else []
        return judged[-1] if judged else ""

    def _watched(self, event: Event, observed: Observed, revision: str, error: str = "") -> None:
        """How long a guest took until it was healthy, and how long it stayed so."""
        guest = newest(observed.guests.get(event.vm, ())) if event.vm is not None else None
        if guest is None:
            return
        vm, now, started = (
            guest.process.vm,
            self._adapters.clock.now().boot,
            guest.process.started_boot,
        )
        since = guest.health.passing_since
        if since is None:
            since = now if error else started  # without checks it is healthy while it lives
        self._phase("probe", max(0.0, since - started), vm, revision, error)
        if not error:
            self._phase("soak", max(0.0, now - since), vm, revision)

    def _phase(self, name: str, seconds: float, vm: VMName, revision: str, error: str = "") -> None:
        self._adapters.meter.phase_ended(name, seconds, revision)
        self._adapters.tracer.span(revision, name, seconds, vm, error)

    def _went_back(self, record: Record, event: Event, result: str, revision: str) -> None:
        vm = self._vm(event)
        group, reason = vm.group if vm else "", "requested"
        for generation in reversed(vm.generations if vm else ()):
            if generation.evidence is not None:
                reason = generation.evidence.kind
                break
        self._adapters.meter.rollback_ended(group, reason, result)
        outcome = "rolled back" if result == "succeeded" else "quarantined"
        self._adapters.tracer.commit_ended(revision, self._seen(record, revision), outcome)

    def _seen(self, record: Record, revision: str) -> float:
        """When that revision was first seen."""
        for one in record.source.revisions:
            if one.revision == revision:
                return one.accepted_wall
        return record.source.first_seen_wall


def newest(guests: tuple[Guest, ...]) -> Guest | None:
    return max(guests, key=lambda guest: guest.process.started_boot, default=None)
