"""One VM's way to its target: bring it up, replace what runs, or keep it well."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.desired import HealthPolicy
from reconciler.model.observed import Guest
from reconciler.model.record import Generation, StopCause
from reconciler.model.trouble import TroubleKey
from reconciler.planning import diff, guest_health
from reconciler.planning.context import PlanBuilder, VMContext
from reconciler.planning.intake import outcomes
from reconciler.planning.preflight import blockers
from reconciler.planning.preflight.image_builds import Needs
from reconciler.planning.rollout import bursts, gates, targets
from reconciler.planning.rollout.disruption_budget import Budget
from reconciler.planning.rollout.targets import Target
from reconciler.planning.steps import handover, operations, rename, try_checks


def move_one(plan: PlanBuilder, vm: VMContext, budget: Budget, needs: Needs) -> None:
    target = targets.choose(plan, vm)
    good = vm.record.last_good
    for spec in (target.wanted, good.spec if good else None):
        if spec is not None:
            needs.add(vm.name, spec)
    _explain(plan, vm, target)
    if vm.acted:
        return
    if handover.manage_candidate(plan, vm, target):
        return
    if vm.candidate is not None:
        target = _as_it_is(vm)  # the candidate is seen to: whoever serves, serves on
    begun = vm.record.stop
    if vm.guest is None:
        _without_guest(plan, vm, target)
    elif begun is not None and begun.instance == vm.guest.instance:
        # The guest may have been told already: a stop that was begun is carried through.
        operations.stop(plan, vm, begun.cause, f"carrying on: {begun.cause}")
    else:
        _with_guest(plan, vm, target, budget)
        if not vm.acted:
            _repair(plan, vm, budget)  # what runs must be well, whatever else it waits for
        if not vm.acted:
            try_checks.begin(plan, vm)


def _without_guest(plan: PlanBuilder, vm: VMContext, target: Target) -> None:
    if (why := plan.refused_renames.get(vm.name)) is not None:
        plan.wait("moved-from", vm.name, why)
    elif vm.successor is None:
        _bring_up(plan, vm, target)
    elif not rename.move_folder(plan, vm):
        # It cannot move yet, and serves where it is.
        _bring_up(plan, vm, Target(vm.record.last_good))


def _with_guest(plan: PlanBuilder, vm: VMContext, target: Target, budget: Budget) -> None:
    settled = target.wanted is not None and target.kind not in ("rollback", "quarantine")
    if vm.successor is not None and settled:
        rename.stop_for_rename(plan, vm, target, budget)
    elif _must_change(vm, target):
        _replace(plan, vm, target, budget)
    else:
        _keep(plan, vm, target, budget)


def _as_it_is(vm: VMContext) -> Target:
    running = vm.record.generation(vm.running) if vm.running is not None else None
    return Target(running or vm.record.last_good)


def _must_change(vm: VMContext, target: Target) -> bool:
    if target.generation is None:
        return target.spec is not None
    return target.generation.number != vm.running


def _explain(plan: PlanBuilder, vm: VMContext, target: Target) -> None:
    """Why the desired digest is not the target, and what the next generation changes."""
    told = target.kind == "rollback" and vm.guest is not None  # by `verdicts`, with its clock
    if target.kind is not None and not told:
        plan.wait(target.kind, vm.name, target.why)
    good = vm.record.last_good
    if good is not None and target.wanted is not None and target.wanted.digest != good.digest:
        plan.differences[vm.name] = diff.differences(good.spec, target.wanted)


def _keep(plan: PlanBuilder, vm: VMContext, target: Target, budget: Budget) -> None:
    """The right generation runs: do what a person asked."""
    guest, record = vm.guest, vm.record
    if guest is None:
        return
    if target.generation is None:
        running = record.generation(guest.generation)
        if target.kind == "blocked" and running is not None and running.verdict == "condemned":
            operations.stop(plan, vm, "condemned", running.reason)  # and there is no way back
        return
    if record.restart is None:
        return
    if record.restart != guest.instance:
        vm.record = replace(record, restart=None)
    elif record.rollback is not None:
        return  # the way back ends first, within its deadline
    elif handover.replace_anew(plan, vm, target.generation):
        pass
    elif (vm.down or blockers.ready(plan, vm, target.generation.spec)) and budget.take(vm):
        operations.stop(plan, vm, "requested", "a person asked for a restart")


def _repair(plan: PlanBuilder, vm: VMContext, budget: Budget) -> None:
    """A committed guest that turned bad is stopped, to be started again with growing pauses."""
    guest, record = vm.guest, vm.record
    running = record.generation(guest.generation) if guest else None
    if guest is None or running is None or running.verdict != "committed":
        return
    if record.rollback is not None:
        return  # going back has a deadline of its own, in `verdicts`
    if not vm.unhealthy:
        _await_readiness(plan, vm, guest, running.spec.health)
        return
    if running.spec.restart.policy == "never" and guest.said.ended:
        plan.wait("ended", vm.name, f"{vm.unhealthy}; restart.policy is never")
        return
    if record.quarantine is not None or operations.in_trouble(plan, vm, "stop"):
        return
    if try_checks.spared(plan, vm) or not budget.repairs.take(vm):
        return
    why = vm.unhealthy
    outcomes.crashed(plan, vm, why, ill=True)
    operations.stop(plan, vm, "unhealthy", why)


def _await_readiness(plan: PlanBuilder, vm: VMContext, guest: Guest, policy: HealthPolicy) -> None:
    """It lives, and what it lacks may be elsewhere: a restart would help nobody."""
    if vm.judgement == "unhealthy":
        why = f"not ready: {guest_health.symptom(guest, policy)}; no restart follows from that"
        plan.wait("readiness", vm.name, why)
    elif vm.judgement == "starting" and not guest.passed:
        why = f"started again: {guest_health.symptom(guest, policy)}"
        due = guest.process.started_boot + policy.startup_deadline
        plan.wait("starting", vm.name, why, due)


def _replace(plan: PlanBuilder, vm: VMContext, target: Target, budget: Budget) -> None:
    """Another generation must run: prepare all of it, ask, and only then stop what runs."""
    spec, record = target.wanted, vm.record
    if spec is None:
        return
    if record.rollback is not None:
        operations.stop(plan, vm, "condemned", record.rollback.reason)  # never waits for anything
        return
    if not blockers.ready(plan, vm, spec):
        return
    fresh = target.generation is None or target.generation.verdict == "trial"
    gated = fresh and target.kind is None
    if gated and not gates.may_begin(plan, vm):
        return
    if target.generation is not None and fresh and operations.in_trouble(plan, vm, "trial"):
        return
    if handover.applies(vm, spec) and handover.begin(plan, vm, target, spec):
        return
    calm = not gated or bursts.is_calm(plan, vm)
    if not (calm and blockers.preflight(plan, vm, spec) and budget.take(vm)):
        return
    blockers.claim_memory(plan, vm, spec)
    if fresh and record.last_good is not None:
        gates.at_stake(plan).add(vm.name)
    if target.generation is None:
        operations.create(plan, vm, spec)
        return
    if any(operations.in_trouble(plan, vm, kind) for kind in ("create", "stop", "snapshot")):
        return
    if plan.trouble(TroubleKey("create", vm.name)) is not None:
        # Its folder could not be written: nothing is stopped for it before that is done.
        operations.write(plan, vm, target.generation)
        return
    _give_way(plan, vm, target.generation, gated=gated)


def _give_way(plan: PlanBuilder, vm: VMContext, newer: Generation, *, gated: bool) -> None:
    if gated:
        outcomes.note_illness(plan, vm)
    running = vm.record.generation(vm.running) if vm.running is not None else None
    overtaken = running is not None and running.verdict == "trial"
    cause: StopCause = "overtaken" if overtaken else "update"
    operations.stop(plan, vm, cause, f"generation {newer.number} is ready")


def _bring_up(plan: PlanBuilder, vm: VMContext, target: Target) -> None:
    """Nothing runs: start the target, or the last good generation while the target may not start."""
    record, now = vm.record, plan.now
    spec = target.wanted
    back = targets.fallback(record, target)
    if target.kind == "quarantine" or (spec is None and back is None):
        return
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
        operations.start(plan, vm, back)
    elif not allowed:
        if spec is not None and not blockers.images_ready(plan, spec):
            plan.wait(
                "image", vm.name, f"{', '.join(blockers.missing_images(plan, spec))} not built yet"
            )
    elif target.generation is not None:
        operations.start(plan, vm, target.generation)
        if back is not None and fresh and not vm.acted and _host_lacks(plan, vm):
            operations.start(
                plan, vm, back
            )  # the last good one waits for no reserve: serve meanwhile
    elif spec is not None and blockers.preflight(plan, vm, spec):
        operations.create(plan, vm, spec)


def _host_lacks(plan: PlanBuilder, vm: VMContext) -> bool:
    """Whether what stands before its start is the host's, and came up since its former guest was stopped."""
    return any(wait.subject == vm.name and wait.traits.host_lacks for wait in plan.waits)
