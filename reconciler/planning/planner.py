"""Decides what to do now, from what is desired, observed and recorded.

`plan` is pure: no I/O, no clock, no logging, and the order of its inputs does not matter. It takes in
what ended (`intake`), judges the guests that live (`verdicts`), lets each VM take one step (`steps`)
if it may (`preflight`, `rollout`), and records what became of revisions (`results`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from reconciler.model.desired import DesiredState
from reconciler.model.machine import Route
from reconciler.model.names import VMName
from reconciler.model.observed import Guest, Observed
from reconciler.model.plan import Plan
from reconciler.model.policy import Policy
from reconciler.model.record import Generation, Record
from reconciler.model.trouble import TroubleKey
from reconciler.now import Now
from reconciler.planning import guest_health
from reconciler.planning.context import PlanBuilder, StepResult, VMContext
from reconciler.planning.intake import (
    damage,
    deadlines,
    isolation,
    milestones,
    outcomes,
    tag_answers,
)
from reconciler.planning.preflight import blockers, collection, image_builds, snapshots, tag_lookups
from reconciler.planning.preflight.image_builds import Needs
from reconciler.planning.results import revision_results
from reconciler.planning.rollout import bursts, disruption_budget, suspension, targets
from reconciler.planning.rollout.disruption_budget import Budget
from reconciler.planning.steps import (
    adoption,
    handover,
    next_step,
    operations,
    prune,
    rename,
    routing,
    taps,
    try_checks,
)
from reconciler.planning.verdicts import holds, judgement, progress_deadline, readiness

Step = Callable[[PlanBuilder, VMContext], StepResult]


def plan(
    desired: DesiredState | None, observed: Observed, record: Record, now: Now, policy: Policy
) -> Plan:
    """What to do in this pass, what waits and why, and when the next pass is due.

    `desired` is None while no revision was ever valid: then everything stays as it is, and crashed guests
    are started again.
    """
    plan = PlanBuilder(desired, isolation.excused(observed, record, now), record, now, policy)
    plan.memory_left = observed.host.memory_available_mib - policy.memory_reserve_mib
    _collect_vms(plan)
    plan.suspended = record.suspended
    plan.sent_back = holds.sent_back(record)
    suspension.end_expired(plan)
    deadlines.restart_what_ran_out(plan)
    outcomes.absorb_outcomes(plan)
    outcomes.absorb_growth(plan)
    tag_answers.absorb(plan)
    snapshots.absorb_volumes(plan)
    handover.absorb_handovers(plan)
    unsettled = [s for s in plan.vms.values() if not _settled(plan, s)]
    for vm in unsettled:
        _judge(plan, vm)
    prune.mark_removals(plan)
    holds.lift_holds(plan)
    _move(plan, {s.name for s in unsettled})
    damage.settle(plan)
    taps.maintain(plan)
    _watch(plan)
    progress_deadline.watch_progress(plan)
    if plan.moved:
        revision_results.judge_again(plan)
    else:
        _applied(plan)
        revision_results.record_results(plan)
    tag_lookups.look_up(plan)
    image_builds.cancel(plan)
    collection.collect(plan)
    prune.forget(plan)
    return plan.finish()


def _judge(plan: PlanBuilder, vm: VMContext) -> None:
    """Take in the ends of a VM's guests, record their milestones, and judge their generations."""
    adoption.adopt(plan, vm)
    damage.note(plan, vm)
    outcomes.absorb_exits(plan, vm)
    handover.promote_candidate(plan, vm)
    milestones.remember(plan, vm)
    bursts.note_wanted(plan, vm)
    targets.lift_outdated(vm)
    targets.take_in_place(plan, vm)
    paused = any(suspension.scopes(plan, vm))
    judgement.judge_guest(plan, vm, paused=paused)
    judgement.judge_candidate(plan, vm, paused=paused)
    try_checks.follow(plan, vm, paused=paused)
    readiness.follow(plan, vm)


def _collect_vms(plan: PlanBuilder) -> None:
    """Collect every VM that is desired, recorded or running; a renamed one only once."""
    desired, record = plan.desired, plan.record
    specs = desired.vms if desired is not None else {}
    renamed = rename.successors(desired, record)
    plan.refused_renames = rename.refused_renames(desired, record, renamed)
    taken_over = rename.take_over(plan, renamed)
    names = record.vms.keys() | specs.keys() | plan.observed.guests.keys()
    for name in sorted(map(VMName, names | taken_over.keys())):
        new = renamed.get(name)
        if name in taken_over:
            vm = plan.add_vm(name, specs.get(name), taken_over[name])
            former = vm.record.formerly
            words = f"{former} goes on as {name}, with its generations and volumes"
            plan.event("vm-renamed", words, vm)
        elif new is not None and new in taken_over:
            continue
        elif new is not None and new in specs and name not in specs:
            plan.add_vm(name, replace(specs[new], name=name)).successor = new
            plan.renames[new] = name
            plan.wait("rename", new, rename.taking_over(name, record))
        elif name not in renamed.values():
            plan.add_vm(name, specs.get(name))


def _settled(plan: PlanBuilder, vm: VMContext) -> bool:
    """Whether a VM runs as desired with nothing pending, so that most steps can be skipped."""
    record, spec = vm.record, vm.spec
    good = record.last_good
    return (
        spec is not None
        and good is not None
        and vm.name not in plan.sent_back
        and (good.spec is spec or good.spec == spec)
        and vm.synced
        and len(plan.observed.guests.get(vm.name, ())) == 1
        and record.start is not None
        and vm.guest is not None
        and record.start.instance == vm.guest.instance
        and record.pin is None
        and record.quarantine is None
        and record.backoff is None
        and record.restart is None
        and record.candidate is None
        and record.check_trial is None
        and all(block.withdrawn for block in record.blocked_checks)
        and record.pending_transfer is None
        and record.suspended is None
        and not record.removing
        and record.group == spec.group
        and milestones.is_remembered(plan, vm)
        and record.unready is None
        and routing.is_current(plan, vm)
        and blockers.images_ready(plan, spec)
    )


def _move(plan: PlanBuilder, unsettled: set[VMName]) -> None:
    """Take the first step for each VM that has something to do or must wait."""
    budget, needs = Budget(plan), Needs(plan)
    steps: tuple[Step, ...] = (
        operations.wait,
        handover.resume,
        routing.update,  # like a handover, it does not wait for the end of a suspension
        rename.resume,
        prune.remove,
        suspension.wait,
        partial(next_step.move, budget=budget, needs=needs),
    )
    for vm in disruption_budget.in_order(plan):
        if vm.name in unsettled:
            _take_first(plan, vm, steps)
    routing.release_unknown(plan)
    needs.build()


def _take_first(plan: PlanBuilder, vm: VMContext, steps: tuple[Step, ...]) -> None:
    for step in steps:
        if step(plan, vm) is not StepResult.SKIP:
            return


def _watch(plan: PlanBuilder) -> None:
    """Plan the checks of every living guest."""
    for vm in plan.vms.values():
        _watch_candidate(plan, vm)
        guest = vm.guest
        if guest is None:
            continue
        generation = vm.record.generation(guest.generation)
        if generation is None or _unreachable(plan, vm, guest):
            continue
        soaking = generation.verdict == "trial" or vm.record.rollback is not None
        start = vm.record.start
        routes = start.routes if start is not None and start.instance == guest.instance else None
        _ask(plan, guest, generation, routes or (), soaking=soaking)
        try_checks.ask(plan, vm, routes or ())


def _unreachable(plan: PlanBuilder, vm: VMContext, guest: Guest) -> bool:
    """Whether its own ports are about to be opened, so that checks cannot reach it yet."""
    waits = vm.record.pending_transfer == guest.instance and not guest.health.rounds
    return waits and plan.trouble(TroubleKey("open-ports", vm.name)) is None


def _watch_candidate(plan: PlanBuilder, vm: VMContext) -> None:
    guest, candidate = vm.candidate, vm.record.candidate
    if guest is None or candidate is None or candidate.routes is None:
        return
    generation = vm.record.generation(candidate.generation)
    if generation is not None:
        _ask(plan, guest, generation, candidate.routes, soaking=True)


def _ask(
    plan: PlanBuilder,
    guest: Guest,
    generation: Generation,
    routes: tuple[Route, ...],
    *,
    soaking: bool,
) -> None:
    """The checks of a guest, through its own ports if it has some: a missing proxy is not its fault."""
    question = guest_health.probe_plan(
        guest, generation.spec.health, routes, generation.spec.taps, soaking=soaking
    )
    if question is not None:
        plan.probes[guest.instance] = question


def _applied(plan: PlanBuilder) -> None:
    """Report that the revision is applied once every VM is as it declares."""
    desired, source = plan.desired, plan.record.source
    if desired is None or source.applied == desired.revision:
        return
    if all(_is_applied(s) and not s.acted for s in plan.vms.values() if s.spec is not None):
        plan.source = replace(source, applied=desired.revision)
        plan.event("revision-applied", f"revision {desired.revision[:8]} is applied")


def _is_applied(vm: VMContext) -> bool:
    """Whether a VM runs as desired, or ran so until its regular end."""
    finished, good, spec = vm.record.finished, vm.record.last_good, vm.spec
    ended = finished is not None and good is not None and finished.generation == good.number
    return vm.synced or (
        ended and vm.guest is None and spec is not None and good is not None
        and good.digest == spec.digest
    )  # fmt: skip
