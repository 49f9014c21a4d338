"""Restarts deadlines that passed while the daemon was not running."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from reconciler.model.record import Candidate, Start, VMRecord
from reconciler.now import Deadline, Now
from reconciler.planning.context import PlanBuilder

Due = Callable[[Deadline], bool]


def restart_what_ran_out(plan: PlanBuilder) -> None:
    """Restart deadlines that passed while no daemon ran: guests were neither checked nor changed then.

    Deadlines that did not pass stay, so that a daemon that is restarted repeatedly decides in the end.
    """
    if not plan.observed.blind:
        return
    now = plan.now
    for vm in plan.vms.values():
        vm.record = restart_clocks(vm.record, now, lambda d: d.passed(now))
    for name, spec in plan.desired.groups.items() if plan.desired else ():
        group = plan.group_record(name)
        late = group.progress is not None and group.progress.passed(now)
        if late and spec.progress_deadline is not None:
            plan.groups[name] = replace(group, progress=plan.deadline(spec.progress_deadline))


def restart_clocks(record: VMRecord, now: Now, due: Due = lambda _: True) -> VMRecord:
    """The record with every `due` deadline restarted from which a verdict could follow."""
    start, candidate, rollback = record.start, record.candidate, record.rollback
    if start is not None and _is_judged(record, start):
        record = replace(record, start=replace(start, deadline=_whole(record, start, now, due)))
    if candidate is not None:
        whole = _whole(record, candidate, now, due)
        record = replace(record, candidate=replace(candidate, deadline=whole))
    if (trial := record.check_trial) is not None and due(trial.deadline):
        whole = Deadline(now.boot + trial.patience, now.boot_id)
        record = replace(record, check_trial=replace(trial, deadline=whole))
    back = record.generation(rollback.target) if rollback is not None else None
    if rollback is not None and back is not None and due(rollback.deadline):
        health = back.spec.health
        whole = Deadline(now.boot + health.startup_deadline + health.min_healthy_time, now.boot_id)
        record = replace(record, rollback=replace(rollback, deadline=whole))
    return record


def _is_judged(record: VMRecord, start: Start) -> bool:
    """Whether a deadline matters: none does for a proven generation that serves."""
    tried = record.generation(start.generation)
    return tried is not None and (tried.verdict == "trial" or record.rollback is not None)


def _whole(record: VMRecord, begun: Start | Candidate, now: Now, due: Due) -> Deadline:
    """A restarted deadline. One of another boot stays: it shows that the host went down and not the guest."""
    tried = record.generation(begun.generation)
    if tried is None or begun.deadline.boot_id != now.boot_id or not due(begun.deadline):
        return begun.deadline
    return Deadline(now.boot + tried.spec.health.startup_deadline, now.boot_id)
