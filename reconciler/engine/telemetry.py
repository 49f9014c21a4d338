"""What a pass is worth telling: to the meter in numbers, to the tracer as spans of the commit."""

from __future__ import annotations

from collections import Counter
from typing import get_args

from reconciler.engine.downtime import DowntimeTracker
from reconciler.engine.execute import describe
from reconciler.engine.interfaces import Ports
from reconciler.model.desired import DesiredState
from reconciler.model.names import VMName
from reconciler.model.observed import Guest, Observed, Outcome, OutcomeKind
from reconciler.model.plan import Note, Plan
from reconciler.model.record import Record

PHASES = {
    "create": "prepare",
    "snapshot": "snapshot",
    "stop": "stop",
    "start": "start",
    "start-beside": "start",
    "restore": "restore",
}
"""Operations of a VM as phases of its rollout."""
SLOW: frozenset[str] = frozenset(get_args(OutcomeKind))


VERDICTS = ("commit", "condemn", "rolled-back", "quarantine")


class Measures:
    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._gaps = DowntimeTracker()

    def passed(
        self, record: Record, decided: Plan, observed: Observed, desired: DesiredState | None,
        seconds: float,
    ) -> None:  # fmt: skip
        """A pass was carried out; `record` is as it was before."""
        meter = self._ports.meter
        revision = desired.revision if desired is not None else ""
        result = "noop" if decided.idle else "changed"
        if decided.idle and decided.waits:
            kinds = {wait.kind for wait in decided.waits}
            result = "suspended" if kinds == {"suspended"} else "blocked"
        meter.pass_ended(result, seconds)
        began = (describe(action)[0] for action in decided.actions)
        meter.began(Counter(kind for kind in began if kind in SLOW))
        for gap in self._gaps.ended(record, observed, self._ports.clock.now()):
            meter.gap_ended(gap.cause, gap.seconds)
        self._operations(observed)
        if revision and not decided.idle:
            self._ports.tracer.span(revision, "plan", seconds)
        for outcome in observed.outcomes:
            self._outcome(outcome, revision)
        for action in decided.actions:
            if isinstance(action, Note):
                self._note(record, action, observed, self._of(action, revision))

    def _of(self, note: Note, desired: str) -> str:
        """The revision that a verdict is about: of the generation that was judged."""
        vm = self._ports.ledger.record().vms.get(VMName(note.subject))
        if vm is None or note.kind not in VERDICTS:
            return desired
        wanted = "committed" if note.kind == "commit" else "condemned"
        judged = [g for g in vm.generations if g.verdict == wanted]
        return judged[-1].revision if judged else desired

    def _operations(self, observed: Observed) -> None:
        now = self._ports.clock.now()
        oldest = min((one.since_boot for one in observed.busy.values()), default=None)
        wall = now.wall - (now.boot - oldest) if oldest is not None else 0.0
        self._ports.meter.operating(len(observed.busy), wall)

    def _outcome(self, outcome: Outcome, revision: str) -> None:
        meter, tracer = self._ports.meter, self._ports.tracer
        error = outcome.error or ""
        if outcome.kind in ("build-layer", "build-kernel"):
            result = "differs" if outcome.detail else "built"
            meter.build_ended("failed" if error else result, outcome.seconds, revision)
            tracer.span(revision, "build", outcome.seconds, outcome.subject, error)
        elif outcome.kind == "collect":
            meter.collected(int(outcome.detail or 0), failed=bool(error))
        else:
            tracer.span(revision, outcome.kind, outcome.seconds, outcome.subject, error)
            if (phase := PHASES.get(outcome.kind)) is not None:
                meter.phase_ended(phase, outcome.seconds, revision)

    def _note(self, record: Record, note: Note, observed: Observed, revision: str) -> None:
        meter = self._ports.meter
        match note.kind:
            case "commit":
                meter.rollout_ended("succeeded")
                self._watched(note, observed, revision)
            case "condemn":
                meter.rollout_ended("failed")
                self._watched(note, observed, revision, note.why)
            case "rolled-back":
                self._went_back(record, note, "succeeded", revision)
                self._watched(note, observed, revision)
            case "quarantine":
                self._went_back(record, note, "failed", revision)
            case "checks-accepted" | "checks-condemned":
                meter.check_trial_ended("succeeded" if note.kind == "checks-accepted" else "failed")
            case "applied":
                seen = record.source.first_seen_wall
                seconds = max(0.0, self._ports.clock.now().wall - seen)
                meter.revision_running(seconds, revision)
                self._ports.tracer.commit_ended(revision, seen, "applied")
            case _:
                pass

    def _watched(self, note: Note, observed: Observed, revision: str, error: str = "") -> None:
        """How long a guest took until it was healthy, and how long it stayed so."""
        guest = newest(observed.guests.get(VMName(note.subject), ()))
        if guest is None:
            return
        now, started = self._ports.clock.now().boot, guest.process.started_boot
        since = guest.health.passing_since
        if since is None:
            since = now if error else started  # without checks it is healthy while it lives
        self._phase("probe", max(0.0, since - started), note, revision, error)
        if not error:
            self._phase("soak", max(0.0, now - since), note, revision)

    def _phase(self, name: str, seconds: float, note: Note, revision: str, error: str = "") -> None:
        self._ports.meter.phase_ended(name, seconds, revision)
        self._ports.tracer.span(revision, name, seconds, note.subject, error)

    def _went_back(self, record: Record, note: Note, result: str, revision: str) -> None:
        vm = self._ports.ledger.record().vms.get(VMName(note.subject))
        group, reason = vm.group if vm else "", "requested"
        for generation in reversed(vm.generations if vm else ()):
            if generation.evidence is not None:
                reason = generation.evidence.kind
                break
        self._ports.meter.rollback_ended(group, reason, result)
        outcome = "rolled back" if result == "succeeded" else "quarantined"
        self._ports.tracer.commit_ended(revision, self._seen(record, revision), outcome)

    def _seen(self, record: Record, revision: str) -> float:
        """When that revision was first seen."""
        for one in record.source.revisions:
            if one.revision == revision:
                return one.accepted_wall
        return record.source.first_seen_wall


def newest(guests: tuple[Guest, ...]) -> Guest | None:
    return max(guests, key=lambda guest: guest.process.started_boot, default=None)
