"""Handover: a second guest boots beside the one that serves, and takes its ports once it may be committed.

create --> beside --> its own ports --> on trial --> the front leads to it --> committed, the old one stopped
                         |  exited, checks failed, deadline, overtaken
                         v
                      stopped: it never served

A restart and a rollback to a committed generation work the same way. If the new guest fails, the
generation stays committed, because it was proven before, and the serving guest is unaffected.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePath

from reconciler.host import layout
from reconciler.model.actions import HandOver, OpenPorts, StartBeside
from reconciler.model.desired import VMSpec
from reconciler.model.machine import GuestEndpoint, Route, RouteTarget
from reconciler.model.names import VMName
from reconciler.model.observed import Guest, PortsOpened
from reconciler.model.policy import BY_THE_FRONT
from reconciler.model.record import Candidate, Generation, Start, Stop, VMRecord
from reconciler.model.trouble import TroubleKey
from reconciler.planning import context, machines
from reconciler.planning.context import PlanBuilder, StepResult, VMContext
from reconciler.planning.preflight import blockers
from reconciler.planning.preflight.blockers import LOOK_AGAIN
from reconciler.planning.rollout import gates
from reconciler.planning.rollout.targets import Target
from reconciler.planning.steps import operations
from reconciler.planning.verdicts import judgement

MOST_DRAIN = 10.0
"""Seconds for requests to the old guest to end; connections that are still open are then closed."""
TRIES = 3
"""Failed attempts to take the manifest's ports from a guest that binds them itself; then it is stopped."""


def absorb_handovers(plan: PlanBuilder) -> None:
    """Take in ports that were opened or moved."""
    for outcome in plan.observed.outcomes:
        vm = plan.vms.get(VMName(outcome.subject))
        if vm is None or outcome.error is not None:
            continue
        if isinstance(outcome.result, PortsOpened):
            _opened(vm, outcome.result.routes)
        elif outcome.kind == "hand-over":
            _moved(plan, vm)


def _opened(vm: VMContext, routes: tuple[Route, ...]) -> None:
    """Record a guest's own ports: of the serving guest if it was to get them, else of its candidate."""
    record, start, candidate = vm.record, vm.record.start, vm.record.candidate
    if start is not None and record.pending_transfer == start.instance and start.routes is None:
        vm.record = replace(record, start=replace(start, routes=routes), pending_transfer=None)
    elif candidate is not None and candidate.routes is None:
        vm.record = replace(record, candidate=replace(candidate, routes=routes))


def _moved(plan: PlanBuilder, vm: VMContext) -> None:
    """Commit the candidate, to which new connections now go."""
    record, guest, candidate = vm.record, vm.candidate, vm.record.candidate
    if candidate is None or record.pending_transfer != candidate.instance:
        return
    generation = record.generation(candidate.generation)
    if guest is None or generation is None:
        return  # it ended at that moment: the former guest gets the ports back
    old = vm.guest
    vm.record = replace(
        record,
        start=Start(
            candidate.instance, candidate.generation, "trial", candidate.deadline, candidate.routes,
            candidate.announces, candidate.said, candidate.passed,
        ),
        candidate=None, pending_transfer=None, restart=None,
        stop=Stop(old.instance, "handed-over") if old is not None else None,
    )  # fmt: skip
    plan.assign_guests(vm)
    plan.clear_trouble(TroubleKey("candidate", vm.name))
    if generation.verdict == "trial":
        judgement.commit(plan, vm, generation)
    before = f" from generation {old.generation}" if old is not None else ""
    if old is not None and old.generation == generation.number:
        before = " from its former guest"
    plan.event(
        "handed-over", f"{vm.name}: generation {generation.number} took over{before}",
        vm, generation=generation.number,
    )  # fmt: skip


def applies(vm: VMContext, spec: VMSpec) -> bool:
    """Whether this spec replaces what runs by a handover; a guest that is down has nothing to hand over."""
    return spec.handed_over and vm.guest is not None and not vm.down


def begin(plan: PlanBuilder, vm: VMContext, target: Target, spec: VMSpec) -> StepResult:
    """The next step towards a candidate. SKIP: memory is short, and a restart is allowed instead."""
    made = target.generation
    proven = made is not None and made.verdict == "committed"
    back = proven and made is not None and made.number != vm.running
    if back and operations.in_trouble(plan, vm, "candidate"):
        return StepResult.WAITING
    if spec.memory_mib > plan.memory_left and spec.update.short_of_memory == "restart":
        return StepResult.SKIP
    if not blockers.preflight(plan, vm, spec, beside=True):
        return StepResult.WAITING
    if plan.observed.proxy_error and operations.behind_proxy(spec):
        # The serving guest keeps its ports; a second guest that could not take them over is not started.
        plan.wait("port", vm.name, plan.observed.proxy_error)
        plan.wake_at(plan.now.boot + LOOK_AGAIN)
        return StepResult.WAITING
    if (asked := _behind_the_front(plan, vm)) is not None:
        return asked
    blockers.claim_memory(plan, vm, spec, beside=True)
    if not proven and vm.record.last_good is not None:
        gates.at_stake(plan).add(vm.name)
    if made is None:
        return operations.create(plan, vm, spec)
    if any(operations.in_trouble(plan, vm, kind) for kind in ("create", "start-beside")):
        return StepResult.WAITING
    return _start_beside(plan, vm, made)


def replace_same(plan: PlanBuilder, vm: VMContext, generation: Generation) -> StepResult:
    """A restart that a person requested, by a second guest of the same generation. SKIP: it needs a stop."""
    if not applies(vm, generation.spec):
        return StepResult.SKIP
    if vm.candidate is not None or not blockers.ready(plan, vm, generation.spec):
        return StepResult.WAITING  # another one's trial comes first, and may spare the restart
    return begin(plan, vm, Target(generation), generation.spec)


def promote_candidate(plan: PlanBuilder, vm: VMContext) -> None:
    """Make the candidate of a proven generation the serving guest after that one ended."""
    record, candidate = vm.record, vm.record.candidate
    if vm.guest is not None or vm.candidate is None or candidate is None:
        return
    generation = record.generation(candidate.generation)
    held = record.rollback is not None or record.quarantine is not None or record.removing
    if vm.busy or vm.leaving is not None or held:
        return
    if generation is None or generation.verdict != "committed":
        return
    number, routes = generation.number, candidate.routes
    begun = Start(
        candidate.instance, number, "restart", candidate.deadline, routes,
        candidate.announces, candidate.said, candidate.passed,
    )  # fmt: skip
    pending_transfer = candidate.instance if routes is None else None
    vm.record = replace(
        record, start=begun, candidate=None, pending_transfer=pending_transfer, restart=None
    )
    plan.assign_guests(vm)
    words = f"{vm.name}: the second guest of generation {number} serves, since the first ended"
    plan.event("handed-over", words, vm, generation=number)


def _behind_the_front(plan: PlanBuilder, vm: VMContext) -> StepResult | None:
    """Give the serving guest its own ports first, if it binds the manifest's ports itself.

    None: it has its own. SKIP: it does not answer, and must be stopped to free the ports.
    """
    start, guest = vm.record.start, vm.guest
    running = vm.record.generation(guest.generation) if guest else None
    if start is None or guest is None or running is None or start.routes is not None:
        return None
    if not any(network.forwards for network in running.spec.networks):
        return None
    trouble = plan.trouble(TroubleKey("open-ports", vm.name))
    if trouble is not None and trouble.attempts >= TRIES and trouble.title != BY_THE_FRONT:
        return StepResult.SKIP
    vm.record = replace(vm.record, pending_transfer=guest.instance)
    opened = _open_ports(plan, vm, guest, running)
    return StepResult.WAITING if opened is StepResult.SKIP else opened


def _start_beside(plan: PlanBuilder, vm: VMContext, generation: Generation) -> StepResult:
    instance = machines.instance_id(vm.name, generation, plan.now)
    deadline = plan.deadline(generation.spec.health.startup_deadline)
    routes = None if operations.behind_proxy(generation.spec) else ()
    announces = generation.spec.kernel.key in plan.observed.announcing
    candidate = Candidate(instance, generation.number, deadline, routes, announces)
    beside = replace(vm.record, candidate=candidate)
    vm.record = _counted(beside, generation, plan.now.wall)
    machine = machines.machine_of(
        generation,
        instance,
        plan.observed,
        plan.policy.state_dir,
        operations.free_slot(plan, vm),
    )
    what = "trial" if generation.verdict == "trial" else "a new guest"
    why = f"generation {generation.number}: {what} beside generation {vm.running}"
    plan.event("guest-starting", f"{vm.name}: {why}", vm, generation=generation.number)
    return plan.do(vm, StartBeside(vm.name, machine, why))


def _counted(record: VMRecord, generation: Generation, wall: float) -> VMRecord:
    if generation.verdict == "trial":
        return context.count_restart(record, "rollout", wall)
    again = record.start is not None and record.start.generation == generation.number
    return context.count_restart(record, "manual", wall) if again else record


def resume(plan: PlanBuilder, vm: VMContext) -> StepResult:
    """Continue a port change that has begun, whatever else is so."""
    record, guest, candidate = vm.record, vm.guest, vm.candidate
    if record.pending_transfer is None or (guest is not None and vm.stopping):
        return StepResult.SKIP
    if candidate is not None and record.pending_transfer == candidate.instance and _wanted(vm):
        return _hand_over(plan, vm)
    running = record.generation(guest.generation) if guest is not None else None
    if guest is not None and running is not None and _without_ports(record, guest):
        return _open_ports(plan, vm, guest, running)
    vm.record = replace(record, pending_transfer=None)
    return StepResult.SKIP


def _without_ports(record: VMRecord, guest: Guest) -> bool:
    """Whether the serving guest is being given its own ports."""
    start = record.start
    meant = start is not None and start.instance == guest.instance == record.pending_transfer
    return meant and start is not None and start.routes is None


def _wanted(vm: VMContext) -> bool:
    candidate = vm.record.candidate
    generation = vm.record.generation(candidate.generation) if candidate else None
    return generation is not None and generation.verdict != "condemned"


def manage_candidate(plan: PlanBuilder, vm: VMContext, target: Target) -> StepResult:
    """Judge and handle the guests beside the serving one."""
    if vm.leaving is not None:
        return _stop_predecessor(plan, vm, vm.leaving)
    if vm.unknown is not None:
        process = vm.unknown.process
        why = f"process {process.pid} runs as a second guest of it, and nothing is known of that"
        plan.wait("conflict", vm.name, why)
        return StepResult.WAITING
    guest, candidate = vm.candidate, vm.record.candidate
    if guest is None or candidate is None:
        return StepResult.SKIP
    if vm.guest is not None and vm.stopping:
        return StepResult.SKIP
    if target.generation is None or not _sought(plan, vm, target.generation):
        if plan.desired is None:
            return StepResult.SKIP  # what is wanted is not known: everything stays as it is
        return _dismiss(plan, vm, guest, target)
    if candidate.routes is None:
        return _open_ports(plan, vm, guest, target.generation)
    return _hand_over(plan, vm) if vm.ready else StepResult.SKIP


def _sought(plan: PlanBuilder, vm: VMContext, wanted: Generation) -> bool:
    """Whether the candidate is still what should serve next."""
    record, guest, candidate = vm.record, vm.guest, vm.record.candidate
    if candidate is None or candidate.generation != wanted.number:
        return False
    if wanted.verdict == "trial":
        return True
    if guest is not None and guest.generation == wanted.number:
        return record.restart == guest.instance
    trouble = plan.trouble(TroubleKey("candidate", vm.name))
    return trouble is None or trouble.retry.passed(plan.now)


def _stop_predecessor(plan: PlanBuilder, vm: VMContext, guest: Guest) -> StepResult:
    begun = vm.record.stop
    if begun is None:
        return StepResult.WAITING
    why = f"generation {vm.running} took over" if begun.cause == "handed-over" else begun.cause
    return operations.stop(plan, vm, begun.cause, f"carrying on: {why}", guest)


def _dismiss(plan: PlanBuilder, vm: VMContext, guest: Guest, target: Target) -> StepResult:
    """Stop a candidate that is not needed any more; the serving guest is unaffected."""
    generation = vm.record.generation(guest.generation)
    if generation is not None and generation.verdict == "condemned":
        return operations.stop(plan, vm, "condemned", generation.reason, guest)
    return operations.stop(plan, vm, "overtaken", target.why or "it is not wanted any more", guest)


def _open_ports(
    plan: PlanBuilder, vm: VMContext, guest: Guest, generation: Generation
) -> StepResult:
    """Open a guest's own ports before anything else; after a recent failure other steps continue meanwhile."""
    if operations.in_trouble(plan, vm, "open-ports"):
        return StepResult.SKIP
    home = layout.vm(PurePath(plan.policy.state_dir), guest.process.vm)
    folder = layout.guest_folder(home, guest.process.slot)
    endpoint = GuestEndpoint(
        guest.instance, generation.number, str(folder), generation.spec.networks, guest.process.pid,
        hypervisor=guest.process.hypervisor,
    )  # fmt: skip
    why = f"generation {generation.number} gets ports of its own"
    return plan.do(vm, OpenPorts(vm.name, endpoint, why))


def _hand_over(plan: PlanBuilder, vm: VMContext) -> StepResult:
    """Move the ports to the candidate."""
    record, candidate, old = vm.record, vm.record.candidate, vm.guest
    generation = record.generation(candidate.generation) if candidate else None
    if candidate is None or candidate.routes is None or generation is None:
        return StepResult.WAITING
    if operations.in_trouble(plan, vm, "hand-over"):
        return StepResult.WAITING
    vm.record = replace(record, pending_transfer=candidate.instance)
    running = record.generation(old.generation) if old is not None else None
    drain = min(MOST_DRAIN, running.spec.update.stop_timeout) if running is not None else 0.0
    target = RouteTarget(candidate.instance, candidate.routes)
    predecessor = old.instance if old is not None else None
    why = f"generation {candidate.generation} takes over, healthy for its minHealthyTime"
    slot = vm.candidate.process.slot if vm.candidate is not None else 1
    machine = machines.machine_of(
        generation, candidate.instance, plan.observed, plan.policy.state_dir, slot
    )
    return plan.do(vm, HandOver(vm.name, machine, target, predecessor, drain, why))
