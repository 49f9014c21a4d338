"""Requests about removals: all of a revision, or one VM that left the repository."""

from __future__ import annotations

from dataclasses import replace

from reconciler.errors import RequestRefused
from reconciler.model.change import PutSource, PutVM
from reconciler.model.desired import DesiredState
from reconciler.model.record import Record, VMRecord
from reconciler.now import Now
from reconciler.requests.result import SHORTEST_PREFIX, Answer, done


def confirm(revision: str, record: Record, now: Now, *, prune: bool) -> Answer:
    """Allow all removals of the desired revision. Raises RequestRefused."""
    desired = record.source.revision
    if desired is None or len(revision) < SHORTEST_PREFIX or not desired.startswith(revision):
        raise RequestRefused(
            f"{revision!r} is not the desired revision", hint=f"that is {desired or 'none yet'}"
        )
    if not prune:
        raise RequestRefused(
            "source.prune is off: what leaves the repository is kept, confirmed or not",
            hint="`reconciler remove VM` removes one VM; with `prune = true` in the config all are removed",
        )
    words = f"removals of revision {desired[:8]} are confirmed"
    put = PutSource(replace(record.source, confirmed=desired))
    return done([put], "removals-confirmed", words, now, None)


def remove_one(vm: VMRecord, desired: DesiredState | None, now: Now) -> Answer:
    """Start to remove one VM. The record has it, so that a restart of the daemon does not stop it halfway.

    Raises RequestRefused unless the VM left the repository: the next pass would start it again.
    """
    if (why := _why_not(vm, desired)) is not None:
        raise RequestRefused(why[0], hint=why[1])
    words = f"{vm.name} left the repository and is removed; its volumes are kept"
    gone = replace(
        vm, removing=True, pin=None, rollback=None, quarantine=None, suspended=None, restart=None
    )
    return done([PutVM(gone)], "vm-removing", words, now, vm)


def _why_not(vm: VMRecord, desired: DesiredState | None) -> tuple[str, str] | None:
    """Why a VM may not be removed on request, and a hint; None if it may."""
    name = vm.name
    if desired is None:
        return (
            f"no revision could be read, so it is unknown whether {name} left the repository",
            "`reconciler status` says why the source cannot be read",
        )
    if name in desired.vms:
        return (
            f"{name} is declared by revision {desired.revision[:8]}",
            "delete its manifest first; `reconciler suspend` keeps its guest as it is",
        )
    heirs = [spec.name for spec in desired.vms.values() if spec.moved_from == name]
    if heirs or vm.moving is not None:
        heir = vm.moving or heirs[0]
        return (
            f"{heir} names {name} as movedFrom, and takes over its generations and volumes",
            "remove that field first, or let the move end",
        )
    if vm.removing:
        return f"{name} is being removed already", f"`reconciler why {name}` says how far it is"
    return None
