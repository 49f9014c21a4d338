"""What a VM waits for before its new generation: order, canaries, approval, windows."""

from __future__ import annotations

from collections import Counter

from reconciler.model.desired import GroupSpec, HealthPolicy
from reconciler.model.names import GroupName, VMName
from reconciler.planning import guest_health
from reconciler.planning.context import PlanBuilder, VMContext
from reconciler.planning.rollout import windows

ROLLBACKS_COUNT = 3600.0
"""Seconds for which a failure counts towards the host's breaker."""


def may_begin(plan: PlanBuilder, vm: VMContext, checks: HealthPolicy | None = None) -> bool:
    """Whether nothing keeps this VM from its next generation; each refusal becomes a wait.

    `checks`: these changed checks are to be tried on the running generation.
    """
    if vm.spec is None:
        return True
    if not _dependencies(plan, vm) or not _breaker(plan, vm):
        return False
    if not vm.spec.group or plan.desired is None:
        return True
    if _served_before(vm, checks):
        return True  # a way back waits for no canary, person or window
    group = plan.desired.group(vm.spec.group)
    return (
        _canaries(plan, vm, group, checks)
        and _approved(plan, vm, group, digest_alone=checks is None)
        and _window(plan, vm, group)
    )


def _served_before(vm: VMContext, checks: HealthPolicy | None) -> bool:
    """Whether this digest served here before, judged by the same checks."""
    spec, good = vm.spec, vm.record.last_good
    if checks is not None:
        return good is not None and good.checks is not None and good.checks.before == checks
    return spec is not None and any(
        generation.verdict == "committed"
        and generation.digest == spec.digest
        and not guest_health.has_other_checks(generation, spec)
        for generation in vm.record.generations
    )


def _broken(vm: VMContext) -> bool:
    """Whether it is down and going back does not help, so that only something new can repair it."""
    record = vm.record
    hopeless = record.last_good is None or record.backoff is not None
    # A guest that was not ready may have been stopped for what repairs it: that must still pass then.
    ill = vm.judgement == "unhealthy" or (vm.guest is None and record.unready is not None)
    return vm.down and (hopeless or ill)


def _only_unready(vm: VMContext) -> bool:
    """Whether it lives, was proven, and is only not ready: what it lacks may come back.

    Many may be so at once, for example while a service they use is updated. Giving all of them a new
    generation before their canary passed could turn a short outage into a long one.
    """
    guest, record = vm.guest, vm.record
    if guest is None or vm.unhealthy or record.rollback is not None or record.backoff is not None:
        return False
    running = record.generation(guest.generation)
    return running is not None and running.verdict == "committed"


def _goes_before_canaries(plan: PlanBuilder, vm: VMContext, group: GroupSpec) -> bool:
    """Whether a canary serves but cannot be stopped because members like this one use up the budget.

    Then these change first, within the budget.
    """
    if plan.once("unavailable", _unavailable)[group.name] < group.max_unavailable:
        return False
    canaries = [c for name in group.canary if (c := plan.desired_as(name)) is not None]
    if not any(canary.available and not canary.synced for canary in canaries):
        return False
    others = [s for s in map(plan.vms.get, at_stake(plan)) if s is not None and s is not vm]
    return sum(s.group == group.name for s in others) < group.max_unavailable


def _unavailable(plan: PlanBuilder) -> Counter[GroupName]:
    return Counter(s.group for s in plan.vms.values() if not s.available)


def _dependencies(plan: PlanBuilder, vm: VMContext) -> bool:
    for name in vm.spec.update.after if vm.spec else ():
        other = plan.desired_as(name)
        if other is None or not _is_done(plan, other):
            why = f"comes after {name}, which is not yet healthy at its desired generation"
            plan.wait("dependency", vm.name, why)
            return False
    return True


def _is_done(plan: PlanBuilder, other: VMContext) -> bool:
    """Whether it serves what is desired, or did until its regular end, as a migration does."""
    spec = other.spec
    return other.synced or (
        spec is not None
        and other.successor is None
        and other.record.ended_well(spec, plan.now.boot_id)
    )


def _breaker(plan: PlanBuilder, vm: VMContext) -> bool:
    """Whether the host's breaker is open: many failures at once suggest a fault of the host.

    New generations under way may fail too, so together they stay within the limit for an hour.
    """
    if _broken(vm) or vm.name in at_stake(plan):
        return True
    recent, under_way = plan.recent_failures(ROLLBACKS_COUNT), len(at_stake(plan))
    if len(recent) + under_way < plan.policy.max_rollbacks_per_hour:
        return True
    if under_way:
        why = f"{under_way} new generations are under way and {len(recent)} failed within the hour"
        limit = "(policy.max_rollbacks_per_hour): it is this VM's turn when one of them is healthy"
        plan.wait("breaker", vm.name, f"{why} {limit}")
        return False
    left = min(recent) + ROLLBACKS_COUNT - plan.now.wall
    plan.wait(
        "breaker", vm.name,
        f"{len(recent)} generations failed within the hour (policy.max_rollbacks_per_hour): nothing"
        " that serves is changed until that has passed", plan.now.boot + max(left, 1.0),
    )  # fmt: skip
    return False


def at_stake(plan: PlanBuilder) -> set[VMName]:
    """VMs that could go back, and whose new generation is under way."""
    if plan.at_stake is None:
        plan.at_stake = {s.name for s in plan.vms.values() if _under_way(s)}
    return plan.at_stake


def _under_way(vm: VMContext) -> bool:
    record = vm.record
    newest = record.generations[-1] if record.generations else None
    if record.last_good is None or newest is None or newest.verdict != "trial":
        return False
    left = vm.guest is None or vm.stopping or record.candidate is not None
    return record.quarantine is None and (left or vm.running == newest.number)


def _canaries(
    plan: PlanBuilder, vm: VMContext, group: GroupSpec, checks: HealthPolicy | None
) -> bool:
    # The canary itself may wait for the budget that this one uses up: a fix must come through.
    if vm.desired_name in group.canary or (_broken(vm) and not _only_unready(vm)):
        return True
    # Changed checks stop no guest, so that no canary waits for a budget to try them.
    if checks is None and _broken(vm) and _goes_before_canaries(plan, vm, group):
        return True
    for name in group.canary:
        other = plan.desired_as(name)
        if other is None:
            continue
        if not other.synced:
            plan.wait("dependency", vm.name, f"canary {name} goes first")
            return False
        left = _soak_left(plan, other, group.canary_soak)
        if left > 0:
            why = f"canary {name} soaks for {left:.0f}s more"
            plan.wait("soak", vm.name, why, plan.now.boot + left)
            return False
    return True


def _soak_left(plan: PlanBuilder, canary: VMContext, soak: float) -> float:
    good = canary.record.last_good
    if soak <= 0 or canary.guest is None or good is None:
        return 0.0
    passing = guest_health.passing_for(canary.guest, good.spec.health, plan.now)
    return soak - (passing or 0.0)


def _approved(plan: PlanBuilder, vm: VMContext, group: GroupSpec, *, digest_alone: bool) -> bool:
    spec, first = vm.spec, vm.record.last_good is None
    if group.approval == "auto" or first or spec is None or vm.desired_name in group.canary:
        return True
    approved = plan.group_record(group.name).approved
    if (vm.desired_name, spec.rollout_key) in approved:
        return True
    if digest_alone and (vm.desired_name, spec.digest) in approved:  # by an older version
        return True
    why = f"waits for a person: `reconciler promote {group.name}`"
    plan.wait("approval", vm.name, why)
    return False


def _window(plan: PlanBuilder, vm: VMContext, group: GroupSpec) -> bool:
    """Whether the group's windows allow a change now; repairs do not wait for one."""
    if not group.windows or _broken(vm):
        return True
    now = windows.opening(group.windows, plan.now.wall)
    if now.open:
        return True
    until = None
    if now.until_wall is not None:
        until = plan.now.boot + max(1.0, now.until_wall - plan.now.wall)
    plan.wait("window", vm.name, now.why, until)
    return False
