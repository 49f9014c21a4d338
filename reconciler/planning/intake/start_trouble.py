"""Starts that failed by the host's fault: no verdict follows, and the VM does not stay down.

A proven generation is started again, with pauses. A generation on trial is replaced by the last good one
at once, and tried again later, a few times, because each try stops a guest that serves.
"""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.actions import OperationKind
from reconciler.model.event import Severity
from reconciler.model.observed import Outcome
from reconciler.model.policy import TRIAL_BACKOFF, TROUBLE_BACKOFF, doubling
from reconciler.model.record import BuildTrouble, Generation
from reconciler.model.trouble import TroubleKey
from reconciler.planning.context import PlanBuilder, VMContext

NOT_OF_THE_TRIAL = ("conflict", "growth")
"""Kinds of errors for which going back is no help, or a verdict: a process that holds the VM's lock keeps every
generation out, and a volume that cannot grow says that this generation can never be."""
TRIES = 3
"""Starts of one generation on trial after which a person is waited for."""


def start_failed(
    plan: PlanBuilder, vm: VMContext, generation: Generation, why: str, *, beside: bool = False
) -> None:
    """Record a failed start, with a pause. `beside`: it was a second guest's, and another guest serves."""
    good = vm.record.last_good
    costly = generation.verdict == "trial" and good is not None and not beside
    kind: OperationKind = "start-beside" if beside else "start"
    key = TroubleKey("trial" if costly else kind, vm.name)
    former = plan.trouble(key)
    attempts = (former.attempts if former else 0) + 1
    plan.troubles[key] = trouble = BuildTrouble(
        key=str(key),
        title=kind,
        attempts=attempts,
        error=why,
        definitive=costly and attempts >= TRIES,
        retry=plan.deadline(doubling(TRIAL_BACKOFF if costly else TROUBLE_BACKOFF, attempts)),
    )
    back = f"; generation {good.number} serves meanwhile" if good and costly else ""
    words, level = f"{kind} {vm.name}: {why}{back}", _severity(trouble)
    if beside:
        plan.event("start-beside-failed", words, vm, level, generation.number)
    else:
        plan.event("start-failed", words, vm, level, generation.number)


def _severity(trouble: BuildTrouble) -> Severity:
    return "error" if trouble.definitive else "warning"


def absorb_start(plan: PlanBuilder, vm: VMContext, outcome: Outcome) -> bool:
    """Take in a failed operation if it was the start of a generation on trial; returns whether it was."""
    record = vm.record
    begun = record.generation(record.start.generation) if record.start else None
    if outcome.kind != "start" or outcome.error_kind in NOT_OF_THE_TRIAL:
        return False
    if begun is None or begun.verdict != "trial" or not record.last_good:
        return False
    vm.record = replace(record, start=None, pending_transfer=None)
    start_failed(plan, vm, begun, outcome.error or "")
    return True
