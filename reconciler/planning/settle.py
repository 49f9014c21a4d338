"""Whether anything is still under way, and how it ended; for `reconcile --wait`."""

from __future__ import annotations

from typing import Literal

from reconciler.model.desired import DesiredState
from reconciler.model.names import VMName
from reconciler.model.observed import Observed
from reconciler.model.plan import Plan, WaitKind
from reconciler.model.record import Record, VMRecord

Conclusion = Literal["converged", "working", "failed", "rolled-back", "rollback-failed"]

FOR_PEOPLE: frozenset[WaitKind] = frozenset(
    (
        "approval",
        "hold",
        "suspended",
        "blocked",
        "broken",
        "quarantine",
        "prune",
        "pinned",
        "conflict",
    )
)
"""Waits that neither time nor work of ours will end."""
BEHIND: frozenset[WaitKind] = frozenset(("dependency", "budget", "rename"))
"""Waits for another VM, which may be one of those."""
UNDER_WAY: frozenset[WaitKind] = frozenset(("starting", "soak"))
"""Waits that end by themselves soon, whatever else a person is waited for, as those for a candidate."""


def settled(observed: Observed, plan: Plan) -> bool:
    """Nothing runs, nothing was decided, and what waits, waits for a person."""
    if not plan.idle or observed.busy or observed.building or observed.outcomes:
        return False
    stuck = {wait.subject for wait in plan.waits if wait.kind in FOR_PEOPLE}
    return all(
        wait.kind in FOR_PEOPLE or (stuck and wait.kind in BEHIND)
        for wait in plan.waits
        if wait.subject not in stuck or wait.kind in UNDER_WAY
    )


def conclude(
    desired: DesiredState | None, observed: Observed | None, record: Record, plan: Plan
) -> tuple[Conclusion, str]:
    """How the present desired state fares, worst news first."""
    if record.source.rejection is not None:
        return "failed", record.source.rejection.problems[0]
    if desired is None or observed is None:
        return "working", "no revision was loaded yet"
    verdicts = [
        (vm, verdict)
        for name, spec in desired.vms.items()
        if (vm := record.vms.get(name)) and (verdict := _fate(vm, spec.digest))
    ]
    for worst in ("rollback-failed", "failed", "rolled-back"):
        for vm, (fate, why) in verdicts:
            if fate == worst:
                return worst, f"{vm.name}: {why}"
    if not settled(observed, plan):
        why = next((f"{w.subject}: {w.why}" for w in plan.waits), "work is under way")
        return "working", why
    broken = [wait for wait in plan.waits if wait.kind == "broken"]
    if broken:
        return "failed", f"{broken[0].subject}: {broken[0].why}"
    behind = _behind(desired, observed, record, plan)
    if behind:
        return "working", f"{behind} does not run its desired generation yet"
    return "converged", f"revision {desired.revision[:8]} runs"


def _behind(desired: DesiredState, observed: Observed, record: Record, plan: Plan) -> VMName | None:
    """A VM that is not where it should be, though nothing that it waits for says why."""
    waiting = {wait.subject for wait in plan.waits}
    for name, spec in desired.vms.items():
        vm = record.vms.get(name)
        good = vm.last_good if vm else None
        running = {g.generation for g in observed.guests.get(name, ()) if g.alive}
        arrived = good is not None and good.digest == spec.digest and good.number in running
        if not arrived and name not in waiting:
            return name
    return None


def _fate(vm: VMRecord, digest: str) -> tuple[Conclusion, str] | None:
    if vm.quarantine is not None:
        return "rollback-failed", vm.quarantine.reason
    for block in vm.blocked:
        if block.digest == digest:
            return ("rolled-back" if vm.last_good else "failed"), block.reason
    return None
