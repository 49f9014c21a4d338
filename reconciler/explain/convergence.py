"""Whether anything is still under way, or all that waits needs a person."""

from __future__ import annotations

from reconciler.model.observed import Observed
from reconciler.model.plan import Plan
from reconciler.model.waits import EndedBy


def settled(observed: Observed, plan: Plan) -> bool:
    """Nothing runs, nothing was decided, and what waits, waits for a person."""
    if not plan.idle or observed.busy or observed.building or observed.outcomes:
        return False
    stuck = {wait.subject for wait in plan.waits if wait.traits.ended_by == "person"}
    ending: tuple[EndedBy, ...] = ("person", "guest")
    if stuck or any(wait.traits.ended_by == "guest" for wait in plan.waits):
        ending = (*ending, "other VM")  # which may be one of those
    return all(
        wait.traits.ended_by in ending
        for wait in plan.waits
        if wait.subject not in stuck or wait.traits.ended_by == "trial"
    )
