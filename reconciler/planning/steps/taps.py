"""Taps of present and former guests: which are plugged in again, and which are removed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from reconciler.model.actions import DropTaps, PlugTaps
from reconciler.model.machine import Tap
from reconciler.model.names import VMName
from reconciler.model.observed import Link
from reconciler.model.trouble import TroubleKey
from reconciler.planning.context import PlanBuilder, VMContext
from reconciler.planning.preflight import bridges
from reconciler.planning.rollout import suspension
from reconciler.planning.steps import operations

LOOK_AGAIN = 5.0
"""Seconds until taps of living guests are looked at again: a restart of a bridge makes no event."""


def maintain(plan: PlanBuilder) -> None:
    """Plug loose taps in again, and remove unused ones; guests are not touched."""
    if not plan.observed.links.found:
        return  # the links could not be read
    for vm in plan.vms.values():
        _mend(plan, vm)
    if plan.suspended is None:
        _collect(plan)


def _mend(plan: PlanBuilder, vm: VMContext) -> None:
    guest, record = vm.guest, vm.record
    generation = record.generation(guest.generation) if guest else None
    if generation is None or not generation.spec.taps:
        return
    plan.wake_at(plan.now.boot + LOOK_AGAIN)
    if vm.busy or vm.stopping or any(suspension.scopes(plan, vm)):
        return
    if any(outcome.subject == vm.name for outcome in plan.observed.outcomes):
        return  # what was just done may have been done after the look
    loose = tuple(_loose(plan, vm, generation.spec.taps))
    if not loose or vm.acted or operations.in_trouble(plan, vm, "plug-taps"):
        return
    why = ", ".join(f"tap {tap.name} had left bridge {tap.bridge}" for tap in loose)
    plan.do(vm, PlugTaps(vm.name, loose, why))
    plan.event("tap-plugged", f"{vm.name}: {why}: it is plugged in again", vm, "warning")


def _loose(plan: PlanBuilder, vm: VMContext, taps: tuple[Tap, ...]) -> Iterator[Tap]:
    for tap in taps:
        there = plan.observed.links.found.get(tap.name)
        if there == Link("tap", vm.name, tap.bridge):
            continue
        if there is None:
            why = f"tap {tap.name} of its guest is gone: `reconciler restart {vm.name}` creates it again"
        elif there.owner != vm.name:
            why = f"interface {tap.name} is another's now: it is left as it is"
        elif what := bridges.lacking(plan, tap):
            why = f"tap {tap.name} of its guest has no bridge: {what}"
        else:
            yield tap
            continue
        plan.wait("network", vm.name, why)


def _collect(plan: PlanBuilder) -> None:
    """Remove our taps that no living guest has."""
    ours = {name: one.owner for name, one in plan.observed.links.found.items() if one.owner}
    claimed = _claimed(plan) if ours else set()
    left: defaultdict[VMName, list[str]] = defaultdict(list)
    for name, owner in sorted(ours.items()):
        if name not in claimed and not _untouchable(plan, owner):
            left[owner].append(name)
    for owner, names in left.items():
        if (trouble := plan.pausing(TroubleKey("drop-taps", owner))) is not None:
            plan.wake_at(trouble.retry.boot)
            continue
        action = DropTaps(owner, tuple(names), f"{', '.join(names)}: no guest of {owner} has it")
        if (vm := plan.vms.get(owner)) is not None:
            plan.do(vm, action)
        else:
            plan.actions.append(action)


def _claimed(plan: PlanBuilder) -> set[str]:
    """Taps that living guests have, and that a start at this moment may make.

    Of all VMs: a VM may be renamed, and its generations keep the taps that they had.
    """
    claimed: set[str] = set()
    for vm in plan.vms.values():
        if vm.busy or vm.acted:
            claimed |= {t.name for g in vm.record.generations for t in g.spec.taps}
        else:
            claimed |= bridges.in_use(plan, vm.name) or set()
    return claimed


def _untouchable(plan: PlanBuilder, name: VMName) -> bool:
    """Whether nothing may be done to it now, or its guests' taps are unknown."""
    vm = plan.vms.get(name)
    if vm is not None and (vm.acted or any(suspension.scopes(plan, vm))):
        return True
    return name in plan.observed.busy or bridges.in_use(plan, name) is None
