"""Volumes come back too: a snapshot before a new generation first writes, restored by a rollback.

guest gone --> taking --> taken --> trial runs --> committed: dropped
|
+--> condemned --> restoring --> restored --> last good runs
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePath

from reconciler.host import layout
from reconciler.model.actions import DropSnapshots, RestoreVolumes, SnapshotVolumes
from reconciler.model.names import VMName
from reconciler.model.observed import VolumesSaved
from reconciler.model.record import (
    Generation,
    StartPurpose,
    VMRecord,
    VolumeSnapshot,
)
from reconciler.planning import machines
from reconciler.planning.context import PlanBuilder, StepResult, VMContext


def pairs_of(plan: PlanBuilder, vm: VMName, generation: Generation) -> tuple[tuple[str, str], ...]:
    """The volumes of a generation, each with the path of its snapshot."""
    home, spec = layout.vm(PurePath(plan.policy.state_dir), vm), generation.spec
    return tuple(
        (str(machines.volume_path(home, spec, volume)), str(layout.snapshot(home, volume.name)))
        for volume in spec.volumes
    )


def taken_for(record: VMRecord, bad: Generation) -> bool:
    """Whether going back from this generation also restores the data."""
    snapshot = record.snapshot
    return snapshot is not None and snapshot.before == bad.number and snapshot.state != "taking"


def prepare_volumes(
    plan: PlanBuilder, vm: VMContext, generation: Generation, purpose: StartPurpose
) -> StepResult:
    """Bring the volumes into the state that this start needs; SKIP: they are."""
    if purpose == "trial":
        return _snapshot_first(plan, vm, generation)
    return _restore_first(plan, vm, purpose)


def _snapshot_first(plan: PlanBuilder, vm: VMContext, generation: Generation) -> StepResult:
    record, good = vm.record, vm.record.last_good
    if not generation.spec.update.snapshot_volumes or good is None or not good.spec.volumes:
        return StepResult.SKIP
    snapshot = record.snapshot
    if snapshot is not None and snapshot.state == "restoring":
        # Death cut it short: a snapshot of what is there now would replace the good one.
        return _restore(plan, vm, snapshot, good)
    if snapshot is not None and snapshot.state == "taken":
        # An overtaken trial has written already: what was taken before it is still the way back.
        vm.record = replace(record, snapshot=replace(snapshot, before=generation.number))
        return StepResult.SKIP
    vm.record = replace(record, snapshot=VolumeSnapshot(generation.number, "taking"))
    pairs = pairs_of(plan, vm.name, good)
    why = f"before generation {generation.number} first writes"
    return plan.do(vm, SnapshotVolumes(vm.name, pairs, why))


def _restore_first(plan: PlanBuilder, vm: VMContext, purpose: StartPurpose) -> StepResult:
    """Restore the volumes before a good generation runs on what one on trial wrote.

    Once it started it writes itself, so the same snapshot cannot serve a later trial.
    """
    record, good = vm.record, vm.record.last_good
    snapshot = record.snapshot
    if snapshot is None or good is None or snapshot.state == "taking":
        return StepResult.SKIP  # nothing was written since
    if snapshot.state == "restored":
        if purpose == "restart":
            drop_snapshot(plan, vm, "all of it was put back")
        return StepResult.SKIP
    return _restore(plan, vm, snapshot, good)


def _restore(
    plan: PlanBuilder, vm: VMContext, snapshot: VolumeSnapshot, good: Generation
) -> StepResult:
    vm.record = replace(vm.record, snapshot=replace(snapshot, state="restoring"))
    pairs = tuple((copy, volume) for volume, copy in pairs_of(plan, vm.name, good))
    why = f"generation {snapshot.before} may have written"
    return plan.do(vm, RestoreVolumes(vm.name, pairs, why))


def absorb_volumes(plan: PlanBuilder) -> None:
    """Take in snapshots that were taken or restored since the last pass."""
    for outcome in plan.observed.outcomes:
        vm = plan.vms.get(VMName(outcome.subject))
        snapshot = vm.record.snapshot if vm else None
        if vm is None or snapshot is None or outcome.error is not None:
            continue
        if isinstance(outcome.result, VolumesSaved) and snapshot.state == "taking":
            method = outcome.result.method
            taken = replace(snapshot, state="taken", method=method)
            vm.record = replace(vm.record, snapshot=taken)
            plan.event("volumes-saved", f"{vm.name}: volumes saved by {method}", vm)
        elif outcome.kind == "restore" and snapshot.state == "restoring":
            back = replace(snapshot, state="restored")
            vm.record = replace(vm.record, snapshot=back)
            plan.event(
                "volumes-restored",
                f"{vm.name}: volumes are as before generation {snapshot.before}",
                vm, "warning",
            )  # fmt: skip


def drop_snapshot(plan: PlanBuilder, vm: VMContext, why: str) -> None:
    """Delete a snapshot whose generation is committed, or from which the VM went back."""
    record, good = vm.record, vm.record.last_good
    if record.snapshot is None or good is None:
        return
    paths = tuple(copy for _, copy in pairs_of(plan, vm.name, good))
    vm.record = replace(record, snapshot=None)
    plan.actions.append(DropSnapshots(vm.name, paths, why))
