"""Holds: a group stops after a failure, and continues when the failed VM's spec changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from reconciler.model.desired import GroupSpec, VMSpec
from reconciler.model.names import Digest, GenerationNumber, GroupName, Revision, VMName
from reconciler.model.record import OF_CHECKS, Evidence, Generation, Hold, Record
from reconciler.planning import guest_health
from reconciler.planning.context import PlanBuilder, VMContext


def hold_after_failure(
    plan: PlanBuilder, vm: VMContext, generation: Generation, why: str, evidence: Evidence
) -> None:
    """Apply the group's `onFailure` to a failed member."""
    spec = vm.spec
    if spec is None or spec.digest != generation.digest:
        return  # already overtaken: no member is about to take it
    key = generation.spec.rollout_key if evidence.kind in OF_CHECKS else Digest("")
    if key not in ("", spec.rollout_key):
        return  # overtaken, too: it is to be judged by other checks
    _hold_group(plan, vm, spec, generation.revision, why, key)


def hold_after_checks(plan: PlanBuilder, vm: VMContext, revision: Revision, why: str) -> None:
    """Apply it to a member whose changed checks were refused."""
    if vm.spec is not None:
        _hold_group(plan, vm, vm.spec, revision, why, vm.spec.rollout_key)


def _hold_group(
    plan: PlanBuilder, vm: VMContext, spec: VMSpec, revision: Revision, why: str, key: Digest
) -> None:
    if plan.desired is None or not spec.group:
        return
    group = plan.desired.group(spec.group)
    if group.on_failure == "continue" and not _too_many(plan, group):
        return
    goes_back = group.on_failure == "rollbackGroup"
    hold = Hold(
        vm.name, spec.digest, why, plan.now.wall,
        held=tuple(_waiting(plan, group.name, vm.name)),
        back=tuple(_way_back(plan, group, vm.name, revision)) if goes_back else (),
        revision=revision,
        key=key,
        back_checks=tuple(_former_checks(plan, group, revision)) if goes_back else (),
    )  # fmt: skip
    put_hold(plan, group.name, hold)


def put_hold(plan: PlanBuilder, group: GroupName, hold: Hold) -> None:
    """Hold a group."""
    why = hold.words
    plan.groups[group] = replace(plan.group_record(group), hold=hold, progress=None)
    words = f"group {group} is held: {why}"
    plan.event("group-held", words, severity="error", group=group, revision=hold.revision)


def _too_many(plan: PlanBuilder, group: GroupSpec) -> bool:
    if group.max_failures is None:
        return False
    return sum(_failed(s) for s in members(plan, group.name)) > group.max_failures


def _failed(member: VMContext) -> bool:
    spec, record = member.spec, member.record
    if spec is None:
        return False
    return (
        record.block_of(spec) is not None or guest_health.refused_checks(record, spec) is not None
    )


def members(plan: PlanBuilder, group: GroupName) -> Iterable[VMContext]:
    """The members of a group."""
    return (s for s in plan.vms.values() if s.spec is not None and s.spec.group == group)


def _waiting(
    plan: PlanBuilder, group: GroupName, failed: VMName
) -> Iterable[tuple[VMName, Digest]]:
    """Members that were about to make the same change and have not: they stay as they are."""
    for other in members(plan, group):
        if other.name != failed and (change := still_to_take(other)) is not None:
            yield other.name, change


def still_to_take(member: VMContext) -> Digest | None:
    """Its desired digest, or the rollout key if only checks differ; None: it has everything."""
    if member.spec is None:
        return None
    if not _has_taken(member):
        return member.spec.digest
    return member.spec.rollout_key if _has_other_checks(member) else None


def _has_taken(other: VMContext) -> bool:
    """Whether a member runs its desired digest already, on trial or committed."""
    running = [guest.generation for guest in (other.guest, other.candidate) if guest is not None]
    known = [other.record.generation(number) for number in running]
    return other.spec is not None and any(
        g is not None and g.digest == other.spec.digest for g in known
    )


def _has_other_checks(other: VMContext) -> bool:
    """Whether a member with its desired digest has other checks than desired."""
    good, spec = other.record.last_good, other.spec
    if good is None or spec is None or good.digest != spec.digest:
        return False
    return guest_health.has_other_checks(good, spec)


def _former_checks(plan: PlanBuilder, group: GroupSpec, failed: Revision) -> Iterable[VMName]:
    """Members whose checks the failed revision changed."""
    for other in members(plan, group.name):
        good = other.record.last_good
        if good is not None and good.checks is not None and good.checks.revision == failed:
            yield other.name


def _way_back(
    plan: PlanBuilder, group: GroupSpec, failed: VMName, revision: Revision
) -> Iterable[tuple[VMName, GenerationNumber]]:
    """Members whose newest good generation is of the failed revision, with the one before it."""
    for other in members(plan, group.name):
        good = other.record.last_good
        if other.name == failed or good is None or good.revision != revision:
            continue
        before = [
            g for g in other.record.generations
            if g.verdict == "committed" and g.number < good.number
        ]  # fmt: skip
        if before:
            yield other.name, before[-1].number


def sent_back(record: Record) -> frozenset[VMName]:
    """Members that some hold sends back to the generation before."""
    holds = [group.hold for group in record.groups.values() if group.hold is not None]
    back = frozenset(name for hold in holds for name, _ in hold.back)
    return back.union(*(hold.back_checks for hold in holds))


def hold_of(plan: PlanBuilder, vm: VMContext) -> Hold | None:
    """The hold of this VM's group, while the failed VM still has the spec that failed."""
    if vm.spec is None or not vm.spec.group or plan.desired is None:
        return None
    hold = plan.group_record(vm.spec.group).hold
    if hold is None:
        return None
    return hold if _stands(hold, plan.desired.vms.get(hold.vm)) else None


def _stands(hold: Hold, failed: VMSpec | None) -> bool:
    """Whether the failed VM still has what failed: the digest, and if its checks failed, the checks."""
    if failed is None or failed.digest != hold.digest:
        return False
    return hold.key in ("", failed.rollout_key)


def lift_holds(plan: PlanBuilder) -> None:
    """End holds whose failed VM has another spec or left."""
    if plan.desired is None:
        return
    for name, group in plan.record.groups.items():
        hold = plan.group_record(name).hold
        if hold is None or hold is not group.hold:
            continue
        failed = plan.desired.vms.get(hold.vm)
        if not _stands(hold, failed):
            checks = failed is not None and failed.digest == hold.digest
            why = f"{hold.vm} has {'other checks' if checks else 'a new digest'}"
            plan.groups[name] = replace(plan.group_record(name), hold=None)
            plan.event("hold-lifted", f"group {name} goes on: {why}", group=name)
