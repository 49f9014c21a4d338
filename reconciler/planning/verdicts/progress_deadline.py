"""Rollouts without progress: the progress deadline of a group, and the hold that follows.

The deadline counts time in which a member is starting, on trial, or going back. It pauses while all
members wait for something else, and starts over afterwards: missing memory, a long build or a closed
window say nothing about the change.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from reconciler.model.names import GroupName
from reconciler.model.record import Hold
from reconciler.model.waits import Expected
from reconciler.planning import guest_health
from reconciler.planning.context import PlanBuilder, VMContext
from reconciler.planning.verdicts import holds


def watch_progress(plan: PlanBuilder) -> None:
    """Set a group's deadline, extend it with each success, and hold the group when it passes."""
    if plan.desired is None:
        return
    for name, spec in plan.desired.groups.items():
        if spec.progress_deadline is None:
            continue
        record = plan.group_record(name)
        moving = [] if record.hold is not None else _moving(plan, name)
        if not moving:
            if record.progress is not None:
                plan.groups[name] = replace(record, progress=None)
        elif record.progress is None or _succeeded(plan, name):
            progress = plan.deadline(spec.progress_deadline)
            plan.groups[name] = replace(record, progress=progress)
            plan.wake_at(progress.boot)
        elif record.progress.passed(plan.now):
            _hold(plan, name, moving[0], spec.progress_deadline)
        else:
            plan.wake_at(record.progress.boot)


def _moving(plan: PlanBuilder, group: GroupName) -> list[VMContext]:
    """Members that are changing to what is desired, and that nothing else delays."""
    expected = plan.once("expected by subject", _expected_by_subject)
    behind = (s for s in holds.members(plan, group) if not s.synced and not _has_arrived(s))
    return [s for s in behind if _on_its_way(expected[s.name])]


def _has_arrived(member: VMContext) -> bool:
    """Whether it was proven with everything desired; that it is down since then is another matter."""
    good, spec = member.record.last_good, member.spec
    if good is None or spec is None or member.successor is not None:
        return False
    return good.digest == spec.digest and not guest_health.has_other_checks(good, spec)


def _on_its_way(expected: set[Expected]) -> bool:
    return "to move" in expected or "to stay" not in expected


def _expected_by_subject(plan: PlanBuilder) -> dict[str, set[Expected]]:
    """By VM or group, what its waits let a rollout expect of it."""
    found: dict[str, set[Expected]] = defaultdict(set)
    for wait in plan.waits:
        found[wait.subject].add(wait.traits.expected)
    return found


def _succeeded(plan: PlanBuilder, group: GroupName) -> bool:
    names = {s.name for s in holds.members(plan, group)}
    return any(
        event.kind in ("generation-committed", "checks-accepted") and event.vm in names
        for event in plan.events
    )


def _hold(plan: PlanBuilder, group: GroupName, stuck: VMContext, seconds: float) -> None:
    """Hold all members that are behind, because of the one that was changing and did not become healthy."""
    if stuck.spec is None or plan.desired is None:
        return
    why = f"{stuck.name} did not become healthy, nor any other member, within progressDeadline {seconds:g}s"
    held = tuple(
        (s.name, holds.still_to_take(s) or s.spec.digest)
        for s in holds.members(plan, group)
        if s.spec is not None and not s.synced
    )
    hold = Hold(
        stuck.name, stuck.spec.digest, why, plan.now.wall, held,
        cause="progress", revision=plan.origin(stuck),
    )  # fmt: skip
    holds.put_hold(plan, group, hold)
