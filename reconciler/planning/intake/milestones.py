"""Records facts about living guests: that they are up, how their application ended, that they were healthy."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.guest_reports import Announced
from reconciler.model.observed import Guest
from reconciler.model.record import Candidate, Start
from reconciler.planning import guest_health
from reconciler.planning.context import PlanBuilder, VMContext


def remember(plan: PlanBuilder, vm: VMContext) -> None:
    """Store what a guest has shown: its console is truncated, and a later daemon starts its checks over."""
    start, candidate = vm.record.start, vm.record.candidate
    if start is not None and vm.guest is not None:
        said, passed = _seen(plan, vm, start, vm.guest)
        if (said, passed) != (start.said, start.passed):
            seen = replace(start, said=said, passed=passed)
            vm.record = replace(vm.record, start=seen)
    if candidate is not None and vm.candidate is not None:
        said, passed = _seen(plan, vm, candidate, vm.candidate)
        if (said, passed) != (candidate.said, candidate.passed):
            beside = replace(candidate, said=said, passed=passed)
            vm.record = replace(vm.record, candidate=beside)


def is_remembered(plan: PlanBuilder, vm: VMContext) -> bool:
    """Whether the record has everything that the serving guest has shown."""
    start, guest = vm.record.start, vm.guest
    if start is None or guest is None:
        return True
    return _seen(plan, vm, start, guest) == (start.said, start.passed)


def _seen(
    plan: PlanBuilder, vm: VMContext, begun: Start | Candidate, guest: Guest
) -> tuple[Announced, bool]:
    if guest.instance != begun.instance:
        return begun.said, begun.passed
    generation = vm.record.generation(guest.generation)
    passed = begun.passed or (
        generation is not None
        and guest_health.passing_for(guest, generation.spec.health, plan.now) is not None
    )
    return guest.said, passed
