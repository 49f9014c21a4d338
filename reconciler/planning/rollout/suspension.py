"""Suspension: observing, checks and metrics continue, changes stop, and deadlines pause."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from reconciler.model.change import PutSuspension
from reconciler.model.record import Suspension
from reconciler.planning.context import PlanBuilder, StepResult, VMContext
from reconciler.planning.intake import deadlines


def scopes(plan: PlanBuilder, vm: VMContext) -> Iterator[tuple[str, Suspension]]:
    """What suspends this VM, the nearest scope first."""
    group = plan.group_record(vm.group).suspended
    for scope, suspension in (
        (str(vm.name), vm.record.suspended),
        (f"group {vm.group}", group),
        ("this host", plan.suspended),
    ):
        if suspension is not None:
            yield scope, suspension


def suspended(plan: PlanBuilder, vm: VMContext) -> bool:
    """Whether it is suspended; a wait says why."""
    for scope, suspension in scopes(plan, vm):
        reason = f": {suspension.reason}" if suspension.reason else ""
        until = None
        if suspension.until_wall is not None:
            until = plan.now.boot + max(0.0, suspension.until_wall - plan.now.wall)
        why = f"{scope} is suspended{reason}; `resume` ends it"
        plan.wait("suspended", vm.name, why, until)
        return True
    return False


def wait(plan: PlanBuilder, vm: VMContext) -> StepResult:
    """Add the wait of a suspended VM."""
    return StepResult.WAITING if suspended(plan, vm) else StepResult.SKIP


def end_expired(plan: PlanBuilder) -> None:
    """End suspensions whose time is over."""
    wall = plan.now.wall
    for vm in plan.vms.values():
        if _over(vm.record.suspended, wall):
            vm.record = replace(deadlines.restart_clocks(vm.record, plan.now), suspended=None)
            _tell(plan, vm.name)
    for name, group in plan.record.groups.items():
        if _over(group.suspended, wall):
            plan.groups[name] = replace(plan.group_record(name), suspended=None)
            _restart_group(plan, name)
            _tell(plan, name)
    if _over(plan.suspended, wall):
        plan.suspended = None
        plan.more.append(PutSuspension(None))
        for vm in plan.vms.values():
            vm.record = deadlines.restart_clocks(vm.record, plan.now)
        _tell(plan, "this host")


def _over(suspension: Suspension | None, wall: float) -> bool:
    return (
        suspension is not None
        and suspension.until_wall is not None
        and wall >= suspension.until_wall
    )


def _restart_group(plan: PlanBuilder, name: str) -> None:
    for vm in plan.vms.values():
        if vm.record.group == name:
            vm.record = deadlines.restart_clocks(vm.record, plan.now)


def _tell(plan: PlanBuilder, subject: str) -> None:
    plan.event("resumed", f"{subject} goes on: the time it was suspended for is over")
