"""Changed checks of a running generation: tried beside the present ones, without risk to the guest.

  health differs     allowed, its turn      passes for minHealthyTime
----------------> waits -----------> on trial ------------------------> the generation has the new checks
                                       |  fails, while the guest is well by its present checks
                                       v
                                  refused: the change is blocked, the group held, the present checks stay

A changed digest makes a new generation, which is judged by its own checks from its first start.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from reconciler.model.check_trial import BlockedChecks, CheckChange, CheckTrial
from reconciler.model.desired import HealthPolicy, rollout_key
from reconciler.model.machine import Route
from reconciler.model.names import Digest, GroupName, Revision
from reconciler.model.observed import Guest
from reconciler.model.record import Generation
from reconciler.planning import diff, guest_health
from reconciler.planning.context import PlanBuilder, VMContext
from reconciler.planning.rollout import gates
from reconciler.planning.verdicts import holds

BLOCKED_KEPT = 20
"""Refused checks remembered for each VM; the oldest are forgotten first."""
ASK_AGAIN = 1.0
"""Seconds until it is asked again whether the guest answers its present checks, before a verdict."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """Checks that a committed generation should get."""

    generation: Generation
    health: HealthPolicy
    back: bool = False
    """The group's hold sends it back to these."""

    @property
    def key(self) -> Digest:
        """The rollout key of digest and proposed checks."""
        return rollout_key(self.generation.digest, self.health)


def proposal(plan: PlanBuilder, vm: VMContext) -> Proposal | None:
    """The changed checks of the last good generation; None if it has those it should have."""
    spec, good, record = vm.spec, vm.record.last_good, vm.record
    if spec is None or good is None or good.digest != spec.digest:
        return None
    if record.removing or record.pin is not None or record.quarantine is not None:
        return None
    present, former = good.spec.health, _former(plan, vm, good)
    # Who has its former checks already is not sent back: it waits with what is asked for now.
    if former is not None and former != present:
        return Proposal(good, former, back=True)
    wanted = guest_health.effective_checks(present, spec.health)
    return Proposal(good, wanted) if wanted != present else None


def _former(plan: PlanBuilder, vm: VMContext, good: Generation) -> HealthPolicy | None:
    """The checks to which its group's hold sends it back."""
    hold = holds.hold_of(plan, vm)
    if hold is None or good.checks is None or vm.name not in hold.back_checks:
        return None
    return guest_health.effective_checks(good.spec.health, good.checks.before)


def follow(plan: PlanBuilder, vm: VMContext, *, paused: bool) -> None:
    """Conclude a trial of checks, or end one that is not desired any more.

    `paused`: it is suspended, so no verdict is given.
    """
    if plan.desired is None:
        return  # what is wanted is not known yet: the trial goes on when it is
    wanted = proposal(plan, vm)
    _withdraw_refused(plan, vm)
    trial, guest = vm.record.check_trial, vm.guest
    if trial is None:
        return
    if wanted is None or not _is_of(trial, wanted) or _held(plan, vm, wanted):
        vm.record = replace(vm.record, check_trial=None)
        _tell_withdrawn(plan, vm, trial.revision)
    elif guest is None or guest.instance != trial.instance or vm.record.rollback is not None:
        # Not a word about the checks: they are tried on the next guest, from the start.
        vm.record = replace(vm.record, check_trial=None)
    elif not (paused or vm.busy or vm.stopping):
        _judge(plan, vm, trial, guest)


def _is_of(trial: CheckTrial, wanted: Proposal) -> bool:
    return (trial.generation, trial.health) == (wanted.generation.number, wanted.health)


def _withdraw_refused(plan: PlanBuilder, vm: VMContext) -> None:
    """Mark refused checks that are not desired any more as withdrawn; desired again, they count again."""
    record, spec = vm.record, vm.spec
    if not record.blocked_checks or spec is None:
        return
    asked = {spec.rollout_key, _present_key(record.last_good, spec.health)}
    changed = [replace(block, withdrawn=block.key not in asked) for block in record.blocked_checks]
    gone = [
        b for b, a in zip(record.blocked_checks, changed, strict=True) if a.withdrawn > b.withdrawn
    ]
    if tuple(changed) != record.blocked_checks:
        vm.record = replace(record, blocked_checks=tuple(changed))
    for block in gone:
        _tell_withdrawn(plan, vm, block.revision)


def _present_key(good: Generation | None, wanted: HealthPolicy) -> Digest | None:
    if good is None:
        return None
    return rollout_key(good.digest, guest_health.effective_checks(good.spec.health, wanted))


def _tell_withdrawn(plan: PlanBuilder, vm: VMContext, revision: Revision) -> None:
    why = f"the changed checks of revision {revision[:8]} are no longer asked for"
    plan.event("checks-withdrawn", f"{vm.name}: {why}", vm, revision=revision)


def _judge(plan: PlanBuilder, vm: VMContext, trial: CheckTrial, guest: Guest) -> None:
    answers, policy = guest.trial, trial.health
    passing = guest_health.passing_for(replace(guest, health=answers), policy, plan.now)
    if answers.errors:
        why = f"its changed checks could not be asked: {answers.detail}"
        plan.wait("probe", vm.name, why)
    elif passing is None:
        _not_passing(plan, vm, trial, guest)
    elif passing >= policy.min_healthy_time:
        _accept(plan, vm, trial, guest)
    else:
        left = policy.min_healthy_time - passing
        plan.wait(
            "checks", vm.name,
            f"{_on_trial(trial)}: passing for {passing:.1f}s of {policy.min_healthy_time:g}s",
            plan.now.boot + left,
        )  # fmt: skip


def _on_trial(trial: CheckTrial) -> str:
    return (
        f"the changed checks of revision {trial.revision[:8]} are on trial beside the present ones"
    )


def _not_passing(plan: PlanBuilder, vm: VMContext, trial: CheckTrial, guest: Guest) -> None:
    """Refuse the checks if their time is over and the guest was healthy meanwhile."""
    answers, policy, now = guest.trial, trial.health, plan.now
    fell = answers.ever_passed and answers.failures >= policy.failure_threshold
    late = trial.deadline.passed(now) and answers.asked >= trial.deadline.boot
    if not (fell or late):
        plan.wait(
            "checks", vm.name, f"{_on_trial(trial)}: not passing ({answers.detail})",
            trial.deadline.boot if now.boot < trial.deadline.boot else now.boot + ASK_AGAIN,
        )  # fmt: skip
    elif not _is_well(vm, guest):
        words = f"{_on_trial(trial)}, and the guest does not pass those either ({answers.detail})"
        plan.wait("checks", vm.name, words, now.boot + ASK_AGAIN)
    elif fell:
        _refuse(plan, vm, trial, f"they passed, then failed: {answers.detail}")
    else:
        limit = f"within startupDeadline {trial.patience:g}s"
        _refuse(plan, vm, trial, f"not passed {limit}: {answers.detail}")


def _is_well(vm: VMContext, guest: Guest) -> bool:
    """Whether it passed its present checks after it began to fail the changed ones.

    A guest that becomes unhealthy fails both, and which is asked first says nothing.
    """
    present = vm.record.generation(guest.generation)
    if present is None or not guest_health.asks_guest(present.spec.health):
        return present is not None and vm.judgement == "healthy"
    health, since = guest.health, guest.trial.failing_since
    return (
        health.passing_since is not None
        and not health.errors
        and since is not None
        and health.asked >= since
    )


def _accept(plan: PlanBuilder, vm: VMContext, trial: CheckTrial, guest: Guest) -> None:
    generation = vm.record.generation(trial.generation)
    if generation is None:
        return
    before = generation.spec.health
    changed = replace(
        generation,
        spec=replace(generation.spec, health=trial.health),
        # Who was sent back has no former checks to be sent back to once more.
        checks=None if trial.back else CheckChange(before, trial.revision),
    )
    key = rollout_key(generation.digest, trial.health)
    record = vm.record.with_generation(changed)
    vm.record = replace(
        record, check_trial=None, blocked_checks=tuple(b for b in record.blocked_checks if b.key != key)
    )  # fmt: skip
    vm.guest = replace(guest, health=guest.trial)
    vm.health = guest_health.assess(vm.guest, trial.health, vm.record, plan.now)
    changes = diff.differences(generation.spec, changed.spec)
    words = ", ".join(f"{one.path} {one.old} -> {one.new}" for one in changes)
    why = f"the checks of revision {trial.revision[:8]} passed beside the former ones: {words}"
    plan.event(
        "checks-accepted", f"{vm.name}: {why}", vm, generation=changed.number,
        revision=trial.revision,
    )  # fmt: skip


def _refuse(plan: PlanBuilder, vm: VMContext, trial: CheckTrial, why: str) -> None:
    """Record the refusal, the block and the hold in one transaction. The guest is unaffected."""
    record, generation = vm.record, vm.record.generation(trial.generation)
    if generation is None:
        return
    now, key = plan.now.wall, rollout_key(generation.digest, trial.health)
    former = record.checks_blocked(key)
    block = BlockedChecks(
        key=key,
        generation=trial.generation,
        revision=trial.revision,
        reason=why,
        attempts=(former.attempts if former else 0) + 1,
        first_wall=former.first_wall if former else now,
        last_wall=now,
    )
    others = [b for b in record.blocked_checks if b.key != key]
    blocked = tuple([*others, block][-BLOCKED_KEPT:])
    vm.record = replace(record, check_trial=None, blocked_checks=blocked)
    words = f"the changed checks of revision {trial.revision[:8]} are refused: {why}"
    plan.event(
        "checks-condemned", f"{vm.name}: {words}; the present ones stay", vm, "error",
        trial.generation, revision=trial.revision,
    )  # fmt: skip
    if not trial.back:
        holds.hold_after_checks(plan, vm, trial.revision, f"its changed checks: {why}")


def begin(plan: PlanBuilder, vm: VMContext) -> None:
    """Start a trial of changed checks if nothing prevents it; otherwise waits say what does."""
    wanted, guest, record = proposal(plan, vm), vm.guest, vm.record
    if wanted is None or plan.desired is None or _held(plan, vm, wanted):
        return
    if (block := record.checks_blocked(wanted.key)) is not None:
        why = f"the changed checks of revision {block.revision[:8]} are refused: {block.reason}"
        plan.wait("blocked", vm.name, f"{why}; the present ones stay; push a fix or `retry`")
        return
    changed = replace(wanted.generation.spec, health=wanted.health)
    plan.differences[vm.name] = diff.differences(wanted.generation.spec, changed)
    runs = guest is not None and guest.generation == wanted.generation.number
    if guest is None or not runs or record.check_trial is not None or record.rollback is not None:
        return
    if vm.successor is not None or vm.candidate is not None:
        return  # that guest is about to go
    if not wanted.back and not gates.may_begin(plan, vm, wanted.health):
        return
    if not _has_room(plan, vm):
        return
    revision = _origin(plan, vm, plan.desired.revision)
    patience = wanted.health.startup_deadline
    if vm.spec is not None and not wanted.back:  # a shorter one is none of the generation's
        patience = vm.spec.health.startup_deadline
    deadline = plan.deadline(patience)
    trial = CheckTrial(
        wanted.generation.number, guest.instance, wanted.health, revision, deadline, patience,
        wanted.back,
    )  # fmt: skip
    vm.record = replace(record, check_trial=trial)
    plan.wait("checks", vm.name, _on_trial(trial), deadline.boot)
    plan.event("checks-tried", f"{vm.name}: {_on_trial(trial)}", vm)


def _origin(plan: PlanBuilder, vm: VMContext, newest: Revision) -> Revision:
    """The revision that last changed this VM; a later one may have changed only others."""
    known = reversed(plan.record.source.revisions)
    return next((one.revision for one in known if vm.desired_name in one.vms), newest)


def _held(plan: PlanBuilder, vm: VMContext, wanted: Proposal) -> bool:
    """Whether its group's hold keeps these checks from being tried; `begin` says so."""
    hold = holds.hold_of(plan, vm)
    if hold is None or vm.spec is None or wanted.back:
        return False
    held = (vm.name, vm.spec.rollout_key) in hold.held
    if not held and vm.name not in hold.back_checks:
        return False
    why = f"group {vm.spec.group} is held: {hold.words}"
    plan.wait("hold", vm.name, why)
    return True


def _has_room(plan: PlanBuilder, vm: VMContext) -> bool:
    """Whether `maxUnavailable` allows another trial in the group: running a check may do harm."""
    under_way = plan.once("check trials", _under_way)
    group = vm.group
    limit = plan.desired.group(group).max_unavailable if plan.desired else 1
    if under_way[group] >= limit:
        why = f"maxUnavailable of group {group} is used up: changed checks of {under_way[group]} are on trial"
        plan.wait("budget", vm.name, why)
        return False
    under_way[group] += 1
    return True


def _under_way(plan: PlanBuilder) -> Counter[GroupName]:
    return Counter(s.group for s in plan.vms.values() if s.record.check_trial is not None)


def spared(plan: PlanBuilder, vm: VMContext) -> bool:
    """Whether an unhealthy guest passes the checks that are to replace those that it fails."""
    trial, guest = vm.record.check_trial, vm.guest
    if trial is None or guest is None or guest.trial.passing_since is None:
        return False
    why = f"it fails its present checks and passes the changed ones: {guest.health.detail}"
    plan.wait("checks", vm.name, why)
    return True


def ask(plan: PlanBuilder, vm: VMContext, routes: tuple[Route, ...]) -> None:
    """Run the checks on trial on its guest too."""
    trial, guest = vm.record.check_trial, vm.guest
    if trial is None or guest is None or guest.instance != trial.instance:
        return
    generation = vm.record.generation(guest.generation)
    taps = generation.spec.taps if generation is not None else ()
    question = guest_health.trial_plan(guest, trial.health, routes, taps)
    if question is not None:
        plan.trial_probes[guest.instance] = question
