"""VMs that left the repository: kept, refused, or removed step by step; and records of what is gone."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.actions import RemoveVM
from reconciler.model.desired import DesiredState
from reconciler.model.image_tags import tags_in
from reconciler.model.names import VMName
from reconciler.model.record import Record
from reconciler.model.trouble import COLLECTION, IMAGE, LOOK_UP, TroubleKey
from reconciler.model.waits import WaitKind
from reconciler.planning.context import PlanBuilder, StepResult, VMContext
from reconciler.planning.preflight import image_builds
from reconciler.planning.rollout import suspension
from reconciler.planning.steps import operations

MOST_NAMED = 3


def refuse(state: DesiredState, record: Record) -> str | None:
    """Why a valid state is refused as a whole; None if it may become desired (law 7)."""
    if state.vms or not record.vms:
        return None
    return (
        f"it has no VM at all, and this host runs {len(record.vms)}: an emptied repository stops"
        " nothing (remove VMs one by one, with prune on)"
    )


def mark_removals(plan: PlanBuilder) -> None:
    """Accept or refuse the removals that the desired state implies."""
    if plan.desired is None:
        return
    absent = [s for s in plan.vms.values() if s.spec is None]
    for vm in plan.vms.values():
        if vm.spec is not None and vm.record.removing:
            vm.record = replace(vm.record, removing=False)
    named = {spec.moved_from: spec.name for spec in plan.desired.vms.values() if spec.moved_from}
    for vm in absent:
        if (heir := named.get(vm.name)) is not None and vm.record.moving is None:
            plan.wait(
                "prune", vm.name,
                f"kept: {heir} names it as movedFrom, and has generations of its own: remove that"
                " field, or rename this VM's folder away yourself",
            )  # fmt: skip
    absent = [s for s in absent if s.record.moving is None and s.name not in named]
    fresh = [s for s in absent if not s.record.removing and not any(suspension.scopes(plan, s))]
    if not fresh:
        return
    if (why := _why_kept(plan, plan.desired, len(fresh))) is not None:
        for vm in fresh:
            plan.wait(why[0], vm.name, f"not in the repository; kept, since {why[1]}")
    else:
        for vm in fresh:
            vm.record = replace(vm.record, removing=True, pin=None, rollback=None, quarantine=None)
            plan.event("vm-removing", f"{vm.name} left the repository", vm)


def _why_kept(
    plan: PlanBuilder, desired: DesiredState, removals: int
) -> tuple[WaitKind, str] | None:
    """Why VMs that left the repository are not removed; None if they are."""
    policy = plan.policy
    if plan.refused_renames:
        heirs = ", ".join(sorted(plan.refused_renames)[:MOST_NAMED])
        return "moved-from", (
            f"metadata.movedFrom of {heirs} names a VM that is not known here, and may mean this one"
        )
    if not policy.prune:
        return "kept", "source.prune is off"
    if removals > policy.max_delete and not _confirmed(plan):
        return "prune", (
            f"removing {removals} VMs at once exceeds max_delete {policy.max_delete}: `reconciler"
            f" confirm {desired.revision[:8]}` allows it"
        )
    return None


def _confirmed(plan: PlanBuilder) -> bool:
    """Whether a person allowed all removals of this revision."""
    return plan.desired is not None and plan.record.source.confirmed == plan.desired.revision


def remove(plan: PlanBuilder, vm: VMContext) -> StepResult:
    """The next step of a removal: stop, then delete all but the volumes."""
    if not vm.record.removing:
        return StepResult.SKIP
    if vm.busy or vm.acted:
        return StepResult.WAITING
    if _removed(plan, vm):
        plan.dropped.append(vm.name)
        vm.acted = True
        plan.event("vm-removed", f"{vm.name} is gone; its volumes are kept", vm)
        return StepResult.ACTED
    guest = vm.leaving or vm.candidate or vm.guest or vm.unknown
    begun = vm.record.stop is not None and vm.record.stop.cause == "removed"
    if not begun and suspension.suspended(plan, vm):
        return StepResult.WAITING
    if guest is not None:
        return operations.stop(plan, vm, "removed", "left the repository", guest)
    if operations.in_trouble(plan, vm, "remove"):
        return StepResult.WAITING
    return plan.do(vm, RemoveVM(vm.name, "its guest is gone"))


def _removed(plan: PlanBuilder, vm: VMContext) -> bool:
    return any(
        outcome.kind == "remove" and outcome.subject == vm.name and outcome.error is None
        for outcome in plan.observed.outcomes
    )


def forget(plan: PlanBuilder) -> None:
    """Drop records of groups that are gone, and failures of what is no longer desired.

    Groups that a person suspended are kept, whichever VMs are in them.
    """
    if plan.desired is None:
        return
    _forget_groups(plan)
    _forget_troubles(plan)


def _forget_groups(plan: PlanBuilder) -> None:
    desired = plan.desired
    remembered = plan.record.groups
    if desired is None or not remembered:
        return
    members = {vm.group for vm in plan.vms.values()}
    for name in sorted(remembered.keys() - members - desired.groups.keys()):
        if plan.group_record(name).suspended is None:
            plan.groups[name] = None


def _forget_troubles(plan: PlanBuilder) -> None:
    stored = (TroubleKey.parse(key) for key in plan.record.builds)
    remembered = [key for key in stored if plan.trouble(key) is not None]
    if plan.desired is None or not remembered:
        return
    images = image_builds.named(plan, plan.desired)
    tags = {str(tag) for tag in tags_in(plan.desired)}
    for key in remembered:
        if key.kind == LOOK_UP:
            known = key.subject in tags
        else:
            known = key.subject in images if key.kind == IMAGE else VMName(key.subject) in plan.vms
        if not known and key != COLLECTION:  # the store is always asked for
            plan.clear_trouble(key)
