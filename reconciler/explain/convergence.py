"""How far the host has converged: the newest revision's result, and whether work is still under way."""

from __future__ import annotations

from reconciler.model.desired import DesiredState
from reconciler.model.observed import Observed
from reconciler.model.plan import Plan
from reconciler.model.record import MOST_PROBLEMS, Record
from reconciler.model.revision_result import RevisionResult
from reconciler.model.status import RevisionStatus
from reconciler.model.waits import EndedBy
from reconciler.now import Now
from reconciler.planning.results.revision_results import beside, entry_of, fleet_of, judge_revision


def revision_status(
    desired: DesiredState | None, observed: Observed | None, record: Record, plan: Plan, now: Now
) -> RevisionStatus:
    """The status of the newest revision; it has a result only after a first observation."""
    source, rejection = record.source, record.source.rejection
    found: RevisionResult | None = None
    trouble: tuple[str, ...] = ()
    if desired is not None and observed is not None:
        fleet = fleet_of(desired, observed, record, plan, now)
        entry = entry_of(source, desired)
        found, trouble = judge_revision(fleet, entry), beside(fleet, entry, source)
    return RevisionStatus(
        observed=desired.revision if desired else source.revision,
        applied=source.applied,
        rejected=rejection.revision if rejection else None,
        problems=rejection.problems[:MOST_PROBLEMS] if rejection else (),
        seen_wall=source.first_seen_wall or None,
        rejected_wall=rejection.since_wall if rejection else None,
        result=found.result if found else "",
        why=found.why if found else "",
        changed=found.changed if found else 0,
        healthy=found.healthy if found else 0,
        beside=trouble,
        more_problems=max(0, rejection.count - MOST_PROBLEMS) if rejection else 0,
    )


def settled(observed: Observed, plan: Plan) -> bool:
    """Whether no work is under way and every wait needs a person to end it."""
    if not plan.idle or observed.busy or observed.building or observed.looking or observed.outcomes:
        return False
    stuck = {wait.subject for wait in plan.waits if wait.traits.ended_by == "person"}
    ending: tuple[EndedBy, ...] = ("person", "guest")
    if stuck or any(wait.traits.ended_by == "guest" for wait in plan.waits):
        ending = (*ending, "other VM")  # that VM may be stuck itself
    return all(
        wait.traits.ended_by in ending
        for wait in plan.waits
        if wait.subject not in stuck or wait.traits.ended_by == "trial"
    )
