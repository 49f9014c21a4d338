"""One pass: observe, plan, check, execute, record. The file to read first.

A pass is level-triggered: it asks what is there and what should be there, never what happened. It
may be run at any time, any number of times, and a crash in the middle of one needs no special path.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from reconciler.engine.execute import Executor
from reconciler.engine.interfaces import Adapters
from reconciler.engine.observe import Observer
from reconciler.engine.telemetry import Measures
from reconciler.engine.workers import Workers
from reconciler.errors import LedgerError
from reconciler.model.change import AddEvent, PutSource
from reconciler.model.desired import DesiredState
from reconciler.model.event import Event
from reconciler.model.image_tags import as_meant
from reconciler.model.observed import Observed
from reconciler.model.plan import Plan, Violation
from reconciler.model.policy import Policy
from reconciler.model.record import Record, StoreRecord
from reconciler.model.source_state import Rejection
from reconciler.now import Now
from reconciler.planning.lint.laws import check
from reconciler.planning.planner import plan
from reconciler.planning.preflight.image_builds import stood_on
from reconciler.planning.results.revision_results import opened
from reconciler.planning.steps.prune import refuse
from reconciler.planning.steps.rename import successors

log = logging.getLogger(__name__)

LEDGER_RETRY = 5.0
"""Seconds until a ledger that could not be written is tried again."""
STANDSTILL = 60.0
"""Seconds between passes after which nobody looked in between: twice the loop's longest pause."""


@dataclass(frozen=True, slots=True)
class Passed:
    """What the last pass saw and decided; listeners explain the fleet from it."""

    desired: DesiredState | None
    observed: Observed
    plan: Plan
    now: Now


class Reconciler:
    """Runs passes. One at a time: the caller holds the lock that guards the record."""

    def __init__(self, adapters: Adapters, policy: Policy, workers: Workers) -> None:
        self._adapters = adapters
        self._policy = policy
        self._workers = workers
        self._observer = Observer(adapters, workers)
        self._executor = Executor(adapters, workers)
        self._measures = Measures(adapters)
        self.declared: DesiredState | None = None
        """As the newest valid revision says it, with tags of images in it."""
        self._meant: tuple[DesiredState, StoreRecord, DesiredState] | None = None
        self.passed: Passed | None = None
        self.alerts: tuple[str, ...] = ()
        """What a person should look at now."""
        self._left: Record | None = None
        """The record as the last pass left it."""

    @property
    def desired(self) -> DesiredState | None:
        """The newest valid revision, with what its tags of images mean; the same object while neither changes."""
        declared, store, former = self.declared, self._adapters.ledger.record().store, self._meant
        if declared is None:
            return None
        if former is None or former[0] is not declared or former[1].tags != store.tags:
            self._meant = former = (declared, store, as_meant(declared, store.tags))
        return former[2]

    @desired.setter
    def desired(self, state: DesiredState | None) -> None:
        self.declared = state

    async def accept(self, state: DesiredState) -> bool:
        """Make a valid state the desired one, unless the planner's rules refuse it whole."""
        now = self._adapters.clock.now()
        record = self._adapters.ledger.record()
        refusal = refuse(state, record)
        if refusal is not None:
            await self.reject(state.revision, (refusal,))
            return False
        former = record.source.revision
        if former is not None and former not in (state.revision, record.source.applied):
            self._adapters.tracer.commit_ended(former, record.source.first_seen_wall, "overtaken")
        if record.source.revision != state.revision or record.source.rejection is not None:
            source = replace(
                record.source,
                revision=state.revision,
                first_seen_wall=now.wall,
                rejection=None,
                rewritten=None,
            )
            if former != state.revision:
                meant = as_meant(state, record.store.tags)
                source = replace(source, revisions=opened(self.desired, meant, record, now.wall))
            vms = "1 VM" if len(state.vms) == 1 else f"{len(state.vms)} VMs"
            message = f"revision {state.revision[:8]} is desired: {vms}"
            if former != state.revision:
                message += f", {source.revisions[-1].changed} changed"
            event = Event("revision-accepted", message, now.wall, revision=state.revision)
            await self._adapters.ledger.write([PutSource(source), AddEvent(event)])
        self.desired = state
        return True

    async def reject(
        self, revision: str, problems: tuple[str, ...], kind: str = "parse", more: int = 0
    ) -> None:
        """Remember that a revision was refused; what was desired stays so (law 7)."""
        now = self._adapters.clock.now()
        source = self._adapters.ledger.record().source
        if source.rejection is not None and (
            (source.rejection.revision, source.rejection.problems) == (revision, problems)
        ):
            return
        rejection = Rejection(revision, problems, now.wall, kind, more)
        others = f" (and {rejection.count - 1} more)" if rejection.count > 1 else ""
        message = f"revision {revision[:8]} is refused: {problems[0]}{others}"
        event = Event("revision-rejected", message, now.wall, revision=revision, severity="error")
        await self._adapters.ledger.write(
            [PutSource(replace(source, rejection=rejection)), AddEvent(event)]
        )
        self._adapters.tracer.commit_ended(revision, now.wall, "refused")

    async def run_pass(self) -> float | None:
        """One pass. Returns the boot-clock moment at which the next is due, if time alone asks for it."""
        adapters = self._adapters
        began = adapters.clock.now()
        try:
            await self._executor.settle()
        except LedgerError:
            return self._unwritable(began)
        last = self.passed
        quiet = last is not None and last.plan.idle and not last.plan.waits
        same = last is not None and last.desired is self.desired and not self._workers.outcomes()
        unasked = adapters.ledger.record() is self._left  # else somebody asked something meanwhile
        observed = await self._observer.observe(
            self.desired, fresh=not (quiet and same and unasked)
        )
        now = adapters.clock.now()
        if last is None or began.boot - last.now.boot > STANDSTILL:
            observed = replace(observed, blind=True)
        record = adapters.ledger.record()
        if renamed := successors(self.desired, record):
            taken = await adapters.generations.occupied(list(renamed.values()))
            observed = replace(observed, occupied=taken)
        desired = self.desired
        decided = plan(desired, observed, record, now, self._policy)
        violations = check(decided, desired, observed, record, now)
        if violations:
            self._refuse(violations)
            return now.boot + LEDGER_RETRY
        needed = stood_on(decided, record, observed)
        if needed and await adapters.images.look(needed):
            return now.boot  # decided on images that were just taken away: once more, without them
        try:
            await self._executor.execute(decided, observed.outcomes)
        except LedgerError:
            return self._unwritable(began)
        self.alerts, self._left = (), adapters.ledger.record()
        self.passed = Passed(desired, observed, decided, now)
        seconds = adapters.clock.now().boot - began.boot
        self._measures.passed(record, decided, observed, desired, seconds)
        # What was just decided may have settled the rest: the next pass says so, at once.
        return decided.wake_at if decided.idle else now.boot

    def _unwritable(self, began: Now) -> float:
        """What failed is known by now: see `guarded_ledger`."""
        now = self._adapters.clock.now()
        self._adapters.meter.pass_ended("error", now.boot - began.boot)
        return now.boot + LEDGER_RETRY

    def _refuse(self, violations: tuple[Violation, ...]) -> None:
        self.alerts = tuple(f"law {v.law}: {v.subject}: {v.message}" for v in violations)
        for text in self.alerts:
            log.critical("an unsound plan was refused", extra={"fields": {"violation": text}})
        self._adapters.meter.pass_ended("error", 0.0)
        self._adapters.meter.panicked()
