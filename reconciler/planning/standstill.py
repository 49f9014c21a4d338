"""After a time in which nobody looked: what ran out meanwhile gets its whole time again."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.record import VMRecord
from reconciler.planning.draft import Draft


def restart_what_ran_out(draft: Draft) -> None:
    """Nobody asked the guests and nobody moved them: no verdict may follow from that time.

    What did not run out stays as it was, so that a daemon that dies again and again decides at last.
    """
    if not draft.observed.blind:
        return
    for standing in draft.standings.values():
        standing.record = _restart(draft, standing.record)
    for name, spec in draft.desired.groups.items() if draft.desired else ():
        group = draft.group_record(name)
        late = group.progress is not None and group.progress.passed(
            draft.now.boot, draft.now.boot_id
        )
        if late and spec.progress_deadline is not None:
            draft.groups[name] = replace(group, progress=draft.deadline(spec.progress_deadline))


def _restart(draft: Draft, record: VMRecord) -> VMRecord:
    now, start, rollback = draft.now, record.start, record.rollback
    # A start of another boot stays as it is: it tells that the host went down, and not the guest.
    if start is not None and start.deadline.boot_id == now.boot_id:
        tried = record.generation(start.generation)
        open_ = tried is not None and (tried.verdict == "trial" or rollback is not None)
        if tried is not None and open_ and start.deadline.passed(now.boot, now.boot_id):
            fresh = draft.deadline(tried.spec.health.startup_deadline)
            record = replace(record, start=replace(start, deadline=fresh))
    candidate = record.candidate
    if candidate is not None and candidate.deadline.boot_id == now.boot_id:
        tried = record.generation(candidate.generation)
        if tried is not None and candidate.deadline.passed(now.boot, now.boot_id):
            fresh = draft.deadline(tried.spec.health.startup_deadline)
            record = replace(record, candidate=replace(candidate, deadline=fresh))
    if rollback is not None and rollback.deadline.passed(now.boot, now.boot_id):
        back = record.generation(rollback.target)
        if back is not None:
            seconds = back.spec.health.startup_deadline + back.spec.health.min_healthy_time
            record = replace(record, rollback=replace(rollback, deadline=draft.deadline(seconds)))
    return record
