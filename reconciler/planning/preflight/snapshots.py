"""Volumes come back too: a snapshot before a new generation first writes, restored by a rollback.

guest gone --> taking --> taken --> trial runs --> committed: dropped
|
+--> condemned --> restoring --> restored --> last good runs
"""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.names import VMName
from reconciler.model.plan import DropSnapshots, RestoreVolumes, SnapshotVolumes
from reconciler.model.record import (
    Generation,
    Snapshot,
    StartPurpose,
    VMRecord,
)
from reconciler.planning.context import Draft, Standing
from reconciler.planning.machine import vm_folder, volume_path


def pairs_of(draft: Draft, vm: VMName, generation: Generation) -> tuple[tuple[str, str], ...]:
    """Each volume of this generation with the place of its snapshot."""
    state_dir = draft.policy.state_dir
    return tuple(
        (
            volume_path(state_dir, vm, volume.name),
            f"{vm_folder(state_dir, vm)}/snapshots/{volume.name}.raw",
        )
        for volume in generation.spec.volumes
    )


def taken_for(record: VMRecord, bad: Generation) -> bool:
    """Whether going back from this generation brings the data back, too."""
    snapshot = record.snapshot
    return snapshot is not None and snapshot.before == bad.number and snapshot.state != "taking"


def prepare_volumes(
    draft: Draft, standing: Standing, generation: Generation, purpose: StartPurpose
) -> bool:
    """Whether the volumes are as this start needs them; else the step to it is decided."""
    if purpose == "trial":
        return _snapshot_first(draft, standing, generation)
    return _restore_first(draft, standing, purpose)


def _snapshot_first(draft: Draft, standing: Standing, generation: Generation) -> bool:
    record, good = standing.record, standing.record.last_good
    if not generation.spec.update.snapshot_volumes or good is None or not good.spec.volumes:
        return True
    snapshot = record.snapshot
    if snapshot is not None and snapshot.state == "taken":
        # An overtaken trial has written already: what was taken before it is still the way back.
        standing.record = replace(record, snapshot=replace(snapshot, before=generation.number))
        return True
    standing.record = replace(record, snapshot=Snapshot(generation.number, "taking"))
    pairs = pairs_of(draft, standing.name, good)
    why = f"before generation {generation.number} first writes"
    draft.do(standing, SnapshotVolumes(standing.name, pairs, why))
    return False


def _restore_first(draft: Draft, standing: Standing, purpose: StartPurpose) -> bool:
    """A good generation never runs on what one on trial wrote, whatever brought it back.

    From its start on it writes itself, so what was restored is no way back for a later trial.
    """
    record, good = standing.record, standing.record.last_good
    snapshot = record.snapshot
    if snapshot is None or good is None or snapshot.state == "taking":
        return True  # nothing was written since
    if snapshot.state == "restored":
        if purpose == "restart":
            drop_snapshot(draft, standing, "all of it was put back")
        return True
    standing.record = replace(record, snapshot=replace(snapshot, state="restoring"))
    pairs = tuple((copy, volume) for volume, copy in pairs_of(draft, standing.name, good))
    why = f"generation {snapshot.before} may have written"
    draft.do(standing, RestoreVolumes(standing.name, pairs, why))
    return False


def absorb_volumes(draft: Draft) -> None:
    """Snapshots that were taken or put back since the last pass."""
    for outcome in draft.observed.outcomes:
        standing = draft.standings.get(VMName(outcome.subject))
        snapshot = standing.record.snapshot if standing else None
        if standing is None or snapshot is None or outcome.error is not None:
            continue
        if outcome.kind == "snapshot" and snapshot.state == "taking":
            taken = replace(snapshot, state="taken", method=outcome.detail)
            standing.record = replace(standing.record, snapshot=taken)
            draft.event(
                "volumes-saved", f"{standing.name}: volumes saved by {outcome.detail}", standing
            )
        elif outcome.kind == "restore" and snapshot.state == "restoring":
            back = replace(snapshot, state="restored")
            standing.record = replace(standing.record, snapshot=back)
            draft.event(
                "volumes-restored",
                f"{standing.name}: volumes are as before generation {snapshot.before}",
                standing, "warning",
            )  # fmt: skip


def drop_snapshot(draft: Draft, standing: Standing, why: str) -> None:
    """Its generation is committed, or the way back is behind us: the snapshot may go."""
    record, good = standing.record, standing.record.last_good
    if record.snapshot is None or good is None:
        return
    paths = tuple(copy for _, copy in pairs_of(draft, standing.name, good))
    standing.record = replace(record, snapshot=None)
    draft.actions.append(DropSnapshots(standing.name, paths, why))
