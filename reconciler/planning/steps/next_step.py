"""The next step of one VM towards its target: start it, replace what runs, or keep it healthy."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.desired import HealthPolicy
from reconciler.model.observed import Guest
from reconciler.model.record import Generation, StopCause
from reconciler.model.trouble import TroubleKey
from reconciler.planning import diff, guest_health
from reconciler.planning.context import PlanBuilder, StepResult, VMContext
from reconciler.planning.intake import outcomes
from reconciler.planning.preflight import blockers
from reconciler.planning.preflight.image_builds import Needs
from reconciler.planning.rollout import bursts, gates, targets
from reconciler.planning.rollout.disruption_budget import Budget
from reconciler.planning.rollout.targets import Target
from reconciler.planning.steps import handover, operations, rename, try_checks


def move(plan: PlanBuilder, vm: VMContext, budget: Budget, needs: Needs) -> StepResult:
    """The next step towards what a VM should run."""
    target = targets.choose(plan, vm)
    good = vm.record.last_good
    for spec in (target.wanted, good.spec if good else None):
        if spec is not None:
            needs.add(vm.name, spec)
    _explain(plan, vm, target)
    if vm.acted:
        return StepResult.WAITING
    managed = handover.manage_candidate(plan, vm, target)
    if managed is not StepResult.SKIP:
        return managed
    if vm.candidate is not None:
        target = _as_it_is(vm)  # the candidate is managed: the guest that serves is kept
    begun = vm.record.stop
    if vm.guest is None:
        return _without_guest(plan, vm, target)
    if begun is not None and begun.instance == vm.guest.instance:
        # The guest may have been asked already, so a stop that began is continued.
        return operations.stop(plan, vm, begun.cause, f"carrying on: {begun.cause}")
    result = _with_guest(plan, vm, target, budget)
    if result is not StepResult.ACTED:
        # What runs must be kept healthy, whatever else it waits for.
        result = _repair(plan, vm, budget)
    if result is not StepResult.ACTED:
        try_checks.begin(plan, vm)
    return result


def _without_guest(plan: PlanBuilder, vm: VMContext, target: Target) -> StepResult:
    if (why := plan.refused_renames.get(vm.name)) is not None:
        plan.wait("moved-from", vm.name, why)
        return StepResult.WAITING
    if vm.successor is None:
        return _bring_up(plan, vm, target)
    moved = rename.move_folder(plan, vm)
    if moved is not StepResult.SKIP:
        return moved
    # It cannot change yet, and keeps serving.
    return _bring_up(plan, vm, Target(vm.record.last_good))


def _with_guest(plan: PlanBuilder, vm: VMContext, target: Target, budget: Budget) -> StepResult:
    unsettled = target.looked_up or target.kind in ("rollback", "quarantine")
    settled = target.wanted is not None and not unsettled
    if vm.successor is not None and settled:
        return rename.stop_for_rename(plan, vm, target, budget)
    if _must_change(vm, target):
        return _replace(plan, vm, target, budget)
    return _keep(plan, vm, target, budget)


def _as_it_is(vm: VMContext) -> Target:
    running = vm.record.generation(vm.running) if vm.running is not None else None
    return Target(running or vm.record.last_good)


def _must_change(vm: VMContext, target: Target) -> bool:
    if target.generation is None:
        return target.spec is not None
    return target.generation.number != vm.running


def _explain(plan: PlanBuilder, vm: VMContext, target: Target) -> None:
    """Add waits that say why the desired digest is not the target, and what the next generation changes."""
    explained = target.kind == "rollback" and vm.guest is not None  # by `judgement`, with its clock
    if target.kind is not None and not explained:
        plan.wait(target.kind, vm.name, target.why)
    good = vm.record.last_good
    if good is not None and target.wanted is not None and target.wanted.digest != good.digest:
        plan.differences[vm.name] = diff.differences(good.spec, target.wanted)


def _keep(plan: PlanBuilder, vm: VMContext, target: Target, budget: Budget) -> StepResult:
    """The right generation runs: carry out a person's restart, or repair it."""
    guest, record = vm.guest, vm.record
    if guest is None:
        return StepResult.SKIP
    if target.generation is None:
        running = record.generation(guest.generation)
        if target.kind == "blocked" and running is not None and running.verdict == "condemned":
            # There is nothing to go back to.
            return operations.stop(plan, vm, "condemned", running.reason)
        return StepResult.SKIP
    if record.restart is None:
        return StepResult.SKIP
    if record.restart != guest.instance:
        vm.record = replace(record, restart=None)
        return StepResult.SKIP
    if record.rollback is not None:
        return StepResult.WAITING  # the rollback ends first, within its deadline
    replaced = handover.replace_same(plan, vm, target.generation)
    if replaced is not StepResult.SKIP:
        return replaced
    if (vm.down or blockers.ready(plan, vm, target.generation.spec)) and budget.take(vm):
        return operations.stop(plan, vm, "requested", "a person asked for a restart")
    return StepResult.WAITING


def _repair(plan: PlanBuilder, vm: VMContext, budget: Budget) -> StepResult:
    """Stop a committed guest that must be restarted; starts follow with growing pauses."""
    guest, record = vm.guest, vm.record
    running = record.generation(guest.generation) if guest else None
    if guest is None or running is None or running.verdict != "committed":
        return StepResult.SKIP
    if record.rollback is not None:
        return StepResult.SKIP  # a rollback has its own deadline, in `judgement`
    if not vm.unhealthy:
        _await_readiness(plan, vm, guest, running.spec.health)
        return StepResult.SKIP
    if running.spec.restart.policy == "never" and guest.said.ended:
        plan.wait("ended", vm.name, f"{vm.unhealthy}; restart.policy is never")
        return StepResult.WAITING
    if record.quarantine is not None or operations.in_trouble(plan, vm, "stop"):
        return StepResult.WAITING
    if try_checks.spared(plan, vm) or not budget.repairs.take(vm):
        return StepResult.WAITING
    why = vm.unhealthy
    outcomes.crashed(plan, vm, why, ill=True)
    return operations.stop(plan, vm, "unhealthy", why)


def _await_readiness(plan: PlanBuilder, vm: VMContext, guest: Guest, policy: HealthPolicy) -> None:
    """Add the wait of a guest that lives and is not ready: a restart would not help."""
    if vm.judgement == "unhealthy":
        why = f"not ready: {guest_health.symptom(guest, policy)}; no restart follows from that"
        plan.wait("readiness", vm.name, why)
    elif vm.judgement == "starting" and not guest.passed:
        why = f"started again: {guest_health.symptom(guest, policy)}"
        due = guest.process.started_boot + policy.startup_deadline
        plan.wait("starting", vm.name, why, due)


def _replace(plan: PlanBuilder, vm: VMContext, target: Target, budget: Budget) -> StepResult:
    """Another generation must run: prepare everything, pass all gates, and only then stop what runs."""
    spec, record = target.wanted, vm.record
    if spec is None:
        return StepResult.SKIP
    if record.rollback is not None:
        # Never waits for anything.
        return operations.stop(plan, vm, "condemned", record.rollback.reason)
    if not blockers.ready(plan, vm, spec):
        return StepResult.WAITING
    fresh = target.generation is None or target.generation.verdict == "trial"
    gated = fresh and target.kind is None
    if gated and not gates.may_begin(plan, vm):
        return StepResult.WAITING
    if target.generation is not None and fresh and operations.in_trouble(plan, vm, "trial"):
        return StepResult.WAITING
    if handover.applies(vm, spec):
        begun = handover.begin(plan, vm, target, spec)
        if begun is not StepResult.SKIP:
            return begun
    calm = not gated or bursts.is_calm(plan, vm)
    if not (calm and blockers.preflight(plan, vm, spec) and budget.take(vm)):
        return StepResult.WAITING
    blockers.claim_memory(plan, vm, spec)
    if fresh and record.last_good is not None:
        gates.at_stake(plan).add(vm.name)
    if target.generation is None:
        return operations.create(plan, vm, spec)
    return _give_way(plan, vm, target.generation, gated=gated)


def _give_way(plan: PlanBuilder, vm: VMContext, newer: Generation, *, gated: bool) -> StepResult:
    if any(operations.in_trouble(plan, vm, kind) for kind in ("create", "stop", "snapshot")):
        return StepResult.WAITING
    if plan.trouble(TroubleKey("create", vm.name)) is not None:
        # Its folder could not be written; until it is, nothing is stopped for it.
        return operations.write(plan, vm, newer)
    if gated:
        outcomes.note_illness(plan, vm)
    running = vm.record.generation(vm.running) if vm.running is not None else None
    overtaken = running is not None and running.verdict == "trial"
    cause: StopCause = "overtaken" if overtaken else "update"
    return operations.stop(plan, vm, cause, f"generation {newer.number} is ready")


def _bring_up(plan: PlanBuilder, vm: VMContext, target: Target) -> StepResult:
    """Nothing runs: start the target, or the last good generation while the target may not start."""
    record, now = vm.record, plan.now
    spec = target.wanted
    back = targets.fallback(record, target)
    if target.kind == "quarantine" or (spec is None and back is None):
        return StepResult.SKIP
    fresh = target.generation is None or target.generation.verdict == "trial"
    rebooted = record.start is not None and record.start.deadline.boot_id != now.boot_id
    allowed = (
        spec is not None and blockers.images_ready(plan, spec) and not (rebooted and fresh and back)
    )
    if allowed and fresh:
        allowed = gates.may_begin(plan, vm) and not any(
            operations.in_trouble(plan, vm, kind) for kind in ("snapshot", "trial")
        )
    if not allowed and back is not None and blockers.images_ready(plan, back.spec):
        return operations.start(plan, vm, back)
    if not allowed:
        if spec is not None and not blockers.images_ready(plan, spec):
            plan.wait(
                "image", vm.name, f"{', '.join(blockers.missing_images(plan, spec))} not built yet"
            )
        return StepResult.WAITING
    if target.generation is not None:
        result = operations.start(plan, vm, target.generation)
        if back is not None and fresh and result is not StepResult.ACTED and _host_lacks(plan, vm):
            # The last good one waits for no reserve: serve meanwhile.
            return operations.start(plan, vm, back)
        return result
    if spec is not None and blockers.preflight(plan, vm, spec):
        return operations.create(plan, vm, spec)
    return StepResult.WAITING


def _host_lacks(plan: PlanBuilder, vm: VMContext) -> bool:
    """Whether the obstacle to its start is the host's, and arose after its former guest was stopped."""
    return any(wait.subject == vm.name and wait.traits.host_lacks for wait in plan.waits)
