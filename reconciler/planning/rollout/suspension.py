"""Suspended: observing, probing and metrics go on, acting does not, and clocks stand still."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from reconciler.model.change import PutSuspension
from reconciler.model.plan import Note
from reconciler.model.record import Suspension
from reconciler.planning.context import Draft, Standing
from reconciler.planning.intake.deadlines import restart_clocks


def scopes(draft: Draft, standing: Standing) -> Iterator[tuple[str, Suspension]]:
    """What suspends this VM, nearest first."""
    group = draft.group_record(standing.group).suspended
    for scope, suspension in (
        (str(standing.name), standing.record.suspended),
        (f"group {standing.group}", group),
        ("this host", draft.suspended),
    ):
        if suspension is not None:
            yield scope, suspension


def suspended(draft: Draft, standing: Standing) -> bool:
    """Whether a person said stop; why becomes a wait."""
    for scope, suspension in scopes(draft, standing):
        reason = f": {suspension.reason}" if suspension.reason else ""
        until = None
        if suspension.until_wall is not None:
            until = draft.now.boot + max(0.0, suspension.until_wall - draft.now.wall)
        why = f"{scope} is suspended{reason}; `resume` ends it"
        draft.wait("suspended", standing.name, why, until)
        return True
    return False


def end_expired(draft: Draft) -> None:
    """Suspensions that were given an end, and reached it."""
    wall = draft.now.wall
    for standing in draft.standings.values():
        if _over(standing.record.suspended, wall):
            standing.record = replace(restart_clocks(standing.record, draft.now), suspended=None)
            _tell(draft, standing.name)
    for name, group in draft.record.groups.items():
        if _over(group.suspended, wall):
            draft.groups[name] = replace(draft.group_record(name), suspended=None)
            _restart_group(draft, name)
            _tell(draft, name)
    if _over(draft.suspended, wall):
        draft.suspended = None
        draft.more.append(PutSuspension(None))
        for standing in draft.standings.values():
            standing.record = restart_clocks(standing.record, draft.now)
        _tell(draft, "this host")


def _over(suspension: Suspension | None, wall: float) -> bool:
    return (
        suspension is not None
        and suspension.until_wall is not None
        and wall >= suspension.until_wall
    )


def _restart_group(draft: Draft, name: str) -> None:
    for standing in draft.standings.values():
        if standing.record.group == name:
            standing.record = restart_clocks(standing.record, draft.now)


def _tell(draft: Draft, subject: str) -> None:
    draft.actions.append(Note("resumed", subject, "the time it was suspended for is over"))
    draft.event("resumed", f"{subject} goes on: the time it was suspended for is over")
