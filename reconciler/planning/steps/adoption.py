"""Adopts running guests that the record does not have, as after losing the ledger, without acting on them."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.observed import Guest
from reconciler.model.record import Candidate, Start, StartPurpose, Suspension, VMRecord
from reconciler.planning.context import PlanBuilder, VMContext
from reconciler.planning.steps import operations, routing

TWO_GUESTS = "adopted after the ledger was lost, with two guests"
NOT_DESIRED = "adopted after the ledger was lost, and not what is desired"


def adopt(plan: PlanBuilder, vm: VMContext) -> None:
    """Add a living guest and its generation, as found on disk, to the record.

    The generation counts as committed, because it runs and nothing better is known. If it is not what is
    desired, the VM is suspended until a person decides. The desired state may become known only later,
    because the lost ledger had its revision.
    """
    record = vm.record
    guest = vm.guest
    if record.generations or record.start is not None:
        _recognise(plan, vm)
        if guest is not None and not vm.busy:
            _follow(plan, vm, guest)
        return
    if guest is None:
        return
    target = next((g for g in (vm.unknown,) if g is not None and routing.routes_of(plan, g)), None)
    guest = target or guest
    found = plan.observed.found.get(guest.instance)
    if found is None:
        plan.wait(
            "conflict",
            vm.name,
            f"process {guest.process.pid} runs as its guest, and nothing is known of it",
        )
        vm.acted = True
        return
    committed = replace(found, verdict="committed", verdict_wall=plan.now.wall, reason="adopted")
    deadline = plan.deadline(found.spec.health.startup_deadline)
    record = vm.record.with_generation(committed)
    record = _started(plan, record, Start(guest.instance, found.number, "restart", deadline), guest)
    if vm.spec is None or vm.spec.digest != found.digest:
        record = replace(
            record,
            suspended=Suspension(plan.now.wall, NOT_DESIRED),
        )
    vm.record = record
    plan.assign_guests(vm)
    plan.event("guest-adopted", f"{vm.name}: generation {found.number} adopted", vm, "warning")
    _adopt_candidate(plan, vm)


def _started(plan: PlanBuilder, record: VMRecord, start: Start, guest: Guest) -> VMRecord:
    """The record with this start. Behind the proxy its ports are those that the proxy knows, or are requested."""
    generation, routes = record.generation(start.generation), routing.routes_of(plan, guest)
    asked = routes is None and generation is not None and operations.behind_proxy(generation.spec)
    pending_transfer = start.instance if asked else record.pending_transfer
    return replace(record, start=replace(start, routes=routes), pending_transfer=pending_transfer)


def _adopt_candidate(plan: PlanBuilder, vm: VMContext) -> None:
    """Put a second guest on trial again, and leave it to a person which of the two should serve."""
    guest = vm.unknown
    found = plan.observed.found.get(guest.instance) if guest is not None else None
    if guest is None or found is None:
        return
    deadline = plan.deadline(found.spec.health.startup_deadline)
    record, known = vm.record, vm.record.generation(found.number)
    if known is None or known.verdict != "committed":  # else a second guest of what serves
        record = record.with_generation(replace(found, verdict="trial", evidence=None))
    suspended = vm.record.suspended or Suspension(plan.now.wall, TWO_GUESTS)
    candidate = Candidate(guest.instance, found.number, deadline)
    vm.record = replace(record, candidate=candidate, suspended=suspended)
    plan.assign_guests(vm)


def _recognise(plan: PlanBuilder, vm: VMContext) -> None:
    """End the suspension if the adopted guest proves to be what is desired."""
    record, spec, good = vm.record, vm.spec, vm.record.last_good
    if record.suspended is None or record.suspended.reason != NOT_DESIRED:
        return
    if spec is not None and good is not None and good.digest == spec.digest:
        vm.record = replace(record, suspended=None)
        why = "what was adopted is what is desired"
        plan.event("resumed", f"{vm.name} goes on: {why}", vm)


def _follow(plan: PlanBuilder, vm: VMContext, guest: Guest) -> None:
    """Update a record that has the VM but another start, as after restoring an older ledger."""
    record = vm.record
    if record.start is not None and record.start.instance == guest.instance:
        return
    if record.stop is not None and record.stop.instance == guest.instance:
        return
    generation = record.generation(guest.generation)
    if generation is None:
        why = f"process {guest.process.pid} runs generation {guest.generation}, which nothing remembers"
        plan.wait("conflict", vm.name, why)
        vm.acted = True
        return
    purpose: StartPurpose = "trial" if generation.verdict == "trial" else "restart"
    deadline = plan.deadline(generation.spec.health.startup_deadline)
    # Silence counts against a guest on trial, also if its start failed after its VMM was up. A proven
    # guest may have announced itself in a part of the console that is gone.
    announces = purpose == "trial" and generation.spec.kernel.key in plan.observed.announcing
    start = Start(guest.instance, generation.number, purpose, deadline, announces=announces)
    vm.record = _started(plan, record, start, guest)
