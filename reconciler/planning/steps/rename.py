"""A VM that goes on under another name: its guest stops, its folder moves, and it starts as the new one.

old runs --ready, allowed, in its turn--> stopped --"moving" is durable--> folder moved
                                                                              |
new runs <-- as any VM that does not run: last good, or on trial <-- record under the new name
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from reconciler.model.actions import MoveVM
from reconciler.model.change import DropVM
from reconciler.model.desired import DesiredState
from reconciler.model.names import VMName
from reconciler.model.record import GroupRecord, Record, VMRecord
from reconciler.planning.context import PlanBuilder, StepResult, VMContext
from reconciler.planning.intake import outcomes
from reconciler.planning.preflight import blockers
from reconciler.planning.rollout import gates
from reconciler.planning.rollout.disruption_budget import Budget
from reconciler.planning.rollout.targets import Target
from reconciler.planning.steps import operations

MOST_NAMED = 3


def successors(desired: DesiredState | None, record: Record) -> dict[VMName, VMName]:
    """VMs of the record that are renamed, with their new names.

    A desired VM without a record takes over the VM of its `movedFrom`, or one that once had its name: so the
    revert of a rename restores the VM with its data.
    """
    found = {vm.name: vm.moving for vm in record.vms.values() if vm.moving is not None}
    if desired is None:
        return found
    fresh = [n for n in sorted(desired.vms) if not _known(record, n) and n not in found.values()]
    if not fresh:
        return found
    formerly = {vm.formerly: vm.name for vm in record.vms.values() if vm.formerly is not None}
    for name in fresh:
        old = desired.vms[name].moved_from
        if old is None or not _known(record, old):
            old = formerly.get(name)
        if old is not None and old not in found and old not in desired.vms:
            found[old] = name
    return found


def refused_renames(
    desired: DesiredState | None, record: Record, renamed: Mapping[VMName, VMName]
) -> dict[VMName, str]:
    """New VMs whose `movedFrom` names an unknown VM, with the reason as a text.

    Each would start with empty volumes, and the VM that was meant might be removed.
    """
    if desired is None:
        return {}
    taken = {new: old for old, new in renamed.items()}
    claimed = [s for s in desired.vms.values() if s.moved_from is not None and s.name not in taken]
    fresh = [spec for spec in claimed if not _known(record, spec.name)]
    return {
        spec.name: _what_is_wrong(spec.name, spec.moved_from, desired, record, renamed)
        for spec in fresh
        if spec.moved_from is not None and not _never_began(spec.moved_from, desired, record)
    }


def _never_began(old: VMName, desired: DesiredState, record: Record) -> bool:
    """Whether it is recorded, was never created, and is not desired: there is nothing to take over."""
    vm = record.vms.get(old)
    return vm is not None and not vm.generations and old not in desired.vms


def _what_is_wrong(
    new: VMName,
    old: VMName,
    desired: DesiredState,
    record: Record,
    renamed: Mapping[VMName, VMName],
) -> str:
    heir = renamed.get(old) or next(
        (v.name for v in record.vms.values() if v.formerly == old), None
    )
    left = sorted(name for name in record.vms if name not in desired.vms and name not in renamed)
    if old in desired.vms:
        why = f"{old} is still declared"
    elif heir is not None:
        why = f"{old} goes on as {heir}"
    else:
        perhaps = (
            f" (of those it has, the repository lacks {', '.join(left[:MOST_NAMED])})"
            if left
            else ""
        )
        why = f"this host knows no VM {old}{perhaps}"
    return (
        f"metadata.movedFrom: {why}. {new} does not start, for it would start empty: name the VM that it"
        f" was, or remove movedFrom if it is to be a new one"
    )


def _known(record: Record, name: VMName) -> bool:
    vm = record.vms.get(name)
    return vm is not None and bool(vm.generations)


def taking_over(old: VMName, record: Record) -> str:
    """What the new name waits for, as a text."""
    vm = record.vms.get(old)
    if vm is not None and vm.quarantine is not None:
        return f"takes over {old}, which is in quarantine: push a fix, or `reconciler retry {old}`"
    return f"takes over {old}, with its generations and volumes"


def take_over(plan: PlanBuilder, names: Mapping[VMName, VMName]) -> dict[VMName, VMRecord]:
    """Records whose folder has moved since the last pass, each under its new name."""
    found: dict[VMName, VMRecord] = {}
    for outcome in plan.observed.outcomes:
        old = VMName(outcome.subject)
        if outcome.kind != "move" or outcome.error is not None or old not in names:
            continue
        new = names[old]
        found[new] = _renamed(plan.record.vms[old], new)
        plan.more.append(DropVM(old))
        for group in plan.record.groups.values():
            changed = _with_name(plan.group_record(group.name), old, new)
            if changed != plan.group_record(group.name):
                plan.groups[group.name] = changed
    return found


def _renamed(vm: VMRecord, new: VMName) -> VMRecord:
    generations = tuple(replace(g, vm=new, spec=replace(g.spec, name=new)) for g in vm.generations)
    return replace(
        vm, name=new, generations=generations, formerly=vm.name, moving=None, start=None, stop=None,
        candidate=None, pending_transfer=None, restart=None, removing=False, check_trial=None,
    )  # fmt: skip


def _with_name(group: GroupRecord, old: VMName, new: VMName) -> GroupRecord:
    def now(name: VMName) -> VMName:
        return new if name == old else name

    hold = group.hold
    if hold is not None:
        hold = replace(
            hold, vm=now(hold.vm), held=tuple((now(n), d) for n, d in hold.held),
            back=tuple((now(n), g) for n, g in hold.back),
            back_checks=tuple(now(n) for n in hold.back_checks),
        )  # fmt: skip
    return replace(group, hold=hold, approved=tuple((now(n), d) for n, d in group.approved))


def resume(plan: PlanBuilder, vm: VMContext) -> StepResult:
    """Continue a move that has begun, whatever is desired meanwhile: half-moved data would be unreachable."""
    record = vm.record
    if record.moving is None:
        return StepResult.SKIP
    if vm.acted or plan.observed.guests.get(vm.name):
        return StepResult.WAITING
    if operations.in_trouble(plan, vm, "move"):
        return StepResult.WAITING
    return plan.do(vm, MoveVM(vm.name, record.moving, f"it goes on as {record.moving}"))


def move_folder(plan: PlanBuilder, vm: VMContext) -> StepResult:
    """Move the folder of a VM that does not run, or once its last guest is gone. SKIP: not possible yet."""
    new = vm.successor
    if new is None or vm.candidate is not None or _hindered(plan, vm):
        return StepResult.SKIP
    if plan.observed.guests.get(vm.name):
        return StepResult.WAITING
    vm.record = replace(vm.record, moving=new, stop=None)
    return resume(plan, vm)


def stop_for_rename(plan: PlanBuilder, vm: VMContext, target: Target, budget: Budget) -> StepResult:
    """Stop a running VM for its rename, once what follows is ready, allowed and its turn."""
    new, record, spec = vm.successor, vm.record, target.wanted
    if new is None or spec is None or _hindered(plan, vm):
        return StepResult.WAITING
    generation = target.generation
    trial = generation is not None and generation.verdict == "trial"
    beside = vm.candidate is not None or vm.leaving is not None
    if beside or (trial and generation is not None and generation.number == vm.running):
        plan.wait("rename", vm.name, f"goes on as {new} once its trial is over")
        return StepResult.WAITING
    fresh = generation is None or trial
    if not blockers.ready(plan, vm, spec):
        return StepResult.WAITING
    if fresh and target.kind is None and not gates.may_begin(plan, vm):
        return StepResult.WAITING
    if not blockers.preflight(plan, vm, spec) or not budget.take(vm):
        return StepResult.WAITING
    blockers.claim_memory(plan, vm, spec)
    if fresh and record.last_good is not None:
        gates.at_stake(plan).add(vm.name)
    if fresh and target.kind is None:
        outcomes.note_illness(plan, vm)
    return operations.stop(plan, vm, "update", f"it goes on as {new}")


def _hindered(plan: PlanBuilder, vm: VMContext) -> bool:
    new = vm.successor
    if new is not None and new in plan.observed.occupied:
        why = (
            f"cannot go on as {new}: vms/{new} in the state directory holds something already,"
            " perhaps volumes of an earlier VM of that name: move it away"
        )
        plan.wait("conflict", vm.name, why)
        plan.wait("conflict", new, why)
        return True
    return operations.in_trouble(plan, vm, "move")
