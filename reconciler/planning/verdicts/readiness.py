"""Committed guests that live but may not serve: an event when that begins, and one when it ends."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.lifecycle import Unready
from reconciler.planning import guest_health
from reconciler.planning.context import PlanBuilder, VMContext


def follow(plan: PlanBuilder, vm: VMContext) -> None:
    """Report a change of readiness; restarts and trials have events of their own."""
    guest, record = vm.guest, vm.record
    running = record.generation(guest.generation) if guest is not None else None
    if guest is None or running is None or vm.disturbed or vm.stopping:
        return
    if vm.judgement == "healthy" and record.unready is not None:
        vm.record = replace(record, unready=None)
        words = f"{vm.name}: generation {running.number} is ready again"
        plan.event("guest-ready", words, vm, generation=running.number)
    elif vm.judgement == "unhealthy" and record.unready is None:
        if running.verdict != "committed" or record.rollback is not None or vm.unhealthy:
            return
        why = guest_health.symptom(guest, running.spec.health)
        vm.record = replace(record, unready=Unready(plan.now.wall, why))
        words = f"{vm.name}: generation {running.number} is not ready: {why}; it is not restarted for that"
        plan.event("guest-not-ready", words, vm, "warning", running.number)
