"""Operations on a VM, each with what must be remembered of it: create, start, stop."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model import lifecycle
from reconciler.model.actions import CreateGeneration, StartGuest, StopGuest, StopLadder
from reconciler.model.desired import VMSpec
from reconciler.model.machine import Slot
from reconciler.model.names import InstanceId
from reconciler.model.observed import Guest
from reconciler.model.record import (
    Generation,
    Start,
    StartPurpose,
    Stop,
    StopCause,
    VMRecord,
)
from reconciler.model.trouble import TroubleKey, VMTrouble
from reconciler.planning import context, machines
from reconciler.planning.context import PlanBuilder, StepResult, VMContext
from reconciler.planning.preflight import blockers, snapshots

MAKES_WAY: frozenset[StopCause] = frozenset(("update", "overtaken", "handed-over", "removed"))


def wait(plan: PlanBuilder, vm: VMContext) -> StepResult:
    """Whether an operation of the VM is under way; a wait says so. Only one runs at a time."""
    operation = plan.observed.busy.get(vm.name)
    if operation is None:
        return StepResult.SKIP
    plan.wait("busy", vm.name, f"{operation.kind} in progress")
    return StepResult.WAITING


def create(plan: PlanBuilder, vm: VMContext, spec: VMSpec) -> StepResult:
    """Create a new generation of this spec."""
    record = vm.record
    generation = Generation(
        vm=vm.name,
        number=record.next_number,
        digest=spec.digest,
        revision=plan.origin(vm) or record.generations[-1].revision,
        spec=spec,
        created_wall=plan.now.wall,
    )
    vm.record = record.with_generation(generation)
    plan.clear_trouble(TroubleKey("snapshot", vm.name))
    plan.clear_trouble(TroubleKey("trial", vm.name))
    words = f"{vm.name}: {_origin_in_words(vm, generation)}"
    plan.event("generation-created", words, vm, generation=generation.number)
    return write(plan, vm, generation)


def write(plan: PlanBuilder, vm: VMContext, generation: Generation) -> StepResult:
    """Write a generation's folder."""
    machine = machines.machine_of(
        generation, machines.instance_id(vm.name, generation, plan.now), plan.observed,
        plan.policy.state_dir,
    )  # fmt: skip
    sizes = machines.volume_sizes(generation, plan.policy.state_dir)
    why = _origin_in_words(vm, generation)
    return plan.do(vm, CreateGeneration(vm.name, generation, machine, why, sizes))


def _origin_in_words(vm: VMContext, generation: Generation) -> str:
    earlier = vm.record.proven(generation.digest)
    as_before = f", as generation {earlier.number} was" if earlier is not None else ""
    return f"generation {generation.number} of revision {generation.revision[:8]}{as_before}"


def start(plan: PlanBuilder, vm: VMContext, generation: Generation) -> StepResult:
    """Start a guest of a generation, once nothing holds it back and its volumes are ready."""
    if _held_back(plan, vm, generation):
        return StepResult.WAITING
    purpose = _purpose(vm, generation)
    prepared = snapshots.prepare_volumes(plan, vm, generation, purpose)
    if prepared is not StepResult.SKIP:
        return prepared
    blockers.claim_memory(plan, vm, generation.spec)
    instance = machines.instance_id(vm.name, generation, plan.now)
    vm.record = _with_start(plan, vm, generation, instance, purpose)
    machine = machines.machine_of(
        generation,
        instance,
        plan.observed,
        plan.policy.state_dir,
        free_slot(plan, vm),
    )
    why = f"generation {generation.number}: {purpose}"
    sizes = machines.volume_sizes(generation, plan.policy.state_dir)
    good = vm.record.last_good
    kept = frozenset(machines.volume_sizes(good, plan.policy.state_dir) if good is not None else ())
    plan.event("guest-starting", f"{vm.name}: {why}", vm, generation=generation.number)
    return plan.do(vm, StartGuest(vm.name, machine, sizes, why, kept & sizes.keys()))


def _held_back(plan: PlanBuilder, vm: VMContext, generation: Generation) -> bool:
    """Whether a start has to wait; what for is recorded."""
    record, backoff = vm.record, vm.record.backoff
    committed = generation.verdict == "committed" and record.rollback is None
    if committed and (over := _finished(plan, record, generation)):
        plan.wait("ended", vm.name, over)
        return True
    if committed and backoff is not None and not backoff.until.passed(plan.now):
        why = f"{lifecycle.crashes_in_words(backoff, plan.now)}, again soon: {backoff.reason}"
        plan.wait("backoff", vm.name, why, backoff.until.boot)
        return True
    if any(in_trouble(plan, vm, kind) for kind in ("create", "start", "restore")):
        return True
    repair = generation.verdict == "committed"
    return not blockers.preflight(plan, vm, generation.spec, repair=repair)


def _with_start(
    plan: PlanBuilder,
    vm: VMContext,
    generation: Generation,
    instance: InstanceId,
    purpose: StartPurpose,
) -> VMRecord:
    """The record with this start in it."""
    deadline = plan.deadline(generation.spec.health.startup_deadline)
    announces = generation.spec.kernel.key in plan.observed.announcing
    record = replace(
        vm.record,
        start=Start(instance, generation.number, purpose, deadline, announces=announces),
        pending_transfer=instance if behind_proxy(generation.spec) else None,
        stop=None,
        restart=None,
        finished=None,
    )
    if purpose == "trial" and record.last_good is not None:
        return context.count_restart(record, "rollout", plan.now.wall)
    return record


def _finished(plan: PlanBuilder, record: VMRecord, generation: Generation) -> str:
    """Why a finished guest is not started again, as a text; empty: it may be."""
    finished, policy = record.finished, generation.spec.restart.policy
    if finished is None or finished.generation != generation.number or policy == "always":
        return ""
    if finished.boot_id != plan.now.boot_id:
        return ""
    return f"{finished.why}; restart.policy is {policy}"


def behind_proxy(spec: VMSpec) -> bool:
    """Whether its guest gets its own ports, behind the proxy."""
    return spec.handed_over and any(network.forwards for network in spec.networks)


def _purpose(vm: VMContext, generation: Generation) -> StartPurpose:
    rollback = vm.record.rollback
    if rollback is not None and rollback.target == generation.number:
        return "rollback"
    return "trial" if generation.verdict == "trial" else "restart"


def free_slot(plan: PlanBuilder, vm: VMContext) -> Slot:
    """A slot in which no guest of the VM lives."""
    guests = plan.observed.guests.get(vm.name, ())
    return 2 if any(g.alive and g.process.slot == 1 for g in guests) else 1


def stop(
    plan: PlanBuilder, vm: VMContext, cause: StopCause, why: str, guest: Guest | None = None
) -> StepResult:
    """Stop the serving guest, or another one of the VM."""
    guest = guest or vm.guest
    if guest is None or in_trouble(plan, vm, "stop"):
        return StepResult.WAITING
    generation = vm.record.generation(guest.generation)
    timeout = generation.spec.update.stop_timeout if generation else 60.0
    record = replace(vm.record, stop=Stop(guest.instance, cause))
    if guest is vm.guest:
        record = replace(record, restart=None)
    if cause == "requested":
        record = context.count_restart(record, "manual", plan.now.wall)
    vm.record = record
    ladder = StopLadder(timeout)
    plan.event(
        "guest-stopping", f"{vm.name}: generation {guest.generation}: {why}", vm,
        generation=guest.generation,
        # A guest that makes way does so for what is desired now; else it goes for its own sake.
        revision=plan.origin(vm) if cause in MAKES_WAY else None,
    )  # fmt: skip
    action = StopGuest(vm.name, guest.instance, ladder, why, guest.process.slot)
    return plan.do(vm, action)


def in_trouble(plan: PlanBuilder, vm: VMContext, kind: VMTrouble) -> bool:
    """Whether an operation failed recently and its pause is not over; a wait says so."""
    trouble = plan.trouble(TroubleKey(kind, vm.name))
    if trouble is not None and trouble.definitive:
        times = f"{trouble.attempts} times" if trouble.attempts > 1 else "once"
        why = f"{trouble.title} failed {times}: {trouble.error}; mend it and `retry`"
        plan.wait("broken", vm.name, why)
        return True
    if (pausing := plan.pausing(TroubleKey(kind, vm.name))) is None:
        return False
    plan.wait(
        "build",
        vm.name,
        f"{pausing.title} failed, again soon: {pausing.error}",
        pausing.retry.boot,
    )
    return True
