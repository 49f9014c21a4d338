"""Whether anything is still under way, and which waits end by themselves."""

from __future__ import annotations

from reconciler.model.observed import Observed
from reconciler.model.plan import Plan, WaitKind

FOR_PEOPLE: frozenset[WaitKind] = frozenset(
    (
        "approval",
        "hold",
        "suspended",
        "blocked",
        "broken",
        "quarantine",
        "prune",
        "kept",
        "pinned",
        "conflict",
        "moved-from",
        "ended",
    )
)
"""Waits that neither time nor work of ours will end."""
ELSEWHERE: frozenset[WaitKind] = frozenset(("readiness",))
"""Waits that may end by themselves, and never by work of ours: the guest lacks something that is not here."""
BEHIND: frozenset[WaitKind] = frozenset(("dependency", "budget", "rename"))
"""Waits for another VM, which may be one of those."""
UNDER_WAY: frozenset[WaitKind] = frozenset(("starting", "soak", "checks"))
"""Waits that end by themselves soon, whatever else a person is waited for, as those for a candidate."""


def settled(observed: Observed, plan: Plan) -> bool:
    """Nothing runs, nothing was decided, and what waits, waits for a person."""
    if not plan.idle or observed.busy or observed.building or observed.outcomes:
        return False
    stuck = {wait.subject for wait in plan.waits if wait.kind in FOR_PEOPLE}
    idle = stuck or any(wait.kind in ELSEWHERE for wait in plan.waits)
    return all(
        wait.kind in FOR_PEOPLE | ELSEWHERE or (idle and wait.kind in BEHIND)
        for wait in plan.waits
        if wait.subject not in stuck or wait.kind in UNDER_WAY
    )
