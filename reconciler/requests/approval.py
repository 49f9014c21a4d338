"""Requests about a whole rollout: promote it, or abort it."""

from __future__ import annotations

from dataclasses import replace

from reconciler.errors import RequestRefused
from reconciler.model.change import Change, PutGroup
from reconciler.model.desired import DesiredState, VMSpec
from reconciler.model.names import Digest, GroupName
from reconciler.model.record import Generation, GroupRecord, Hold, Record
from reconciler.now import Now
from reconciler.planning.guest_health import has_other_checks
from reconciler.requests.result import Answer, done


def promote(name: str, record: Record, desired: DesiredState | None, now: Now) -> Answer:
    """Approve the pending change of all members; later digests wait again. Raises RequestRefused."""
    group, members = _members(name, record, desired)
    if desired is not None and desired.group(group.name).approval != "manual":
        raise RequestRefused(
            f"group {name} needs no approval",
            hint="with `approval: manual` in its manifest it would wait",
        )
    approved = tuple((spec.name, spec.rollout_key) for spec in members)
    words = f"group {name} is promoted: its members may take revision {_revision(desired)}"
    put: list[Change] = [PutGroup(replace(group, approved=approved))]
    return done(put, "promoted", words, now, group=GroupName(name))


def abort(name: str, reason: str, record: Record, desired: DesiredState | None, now: Now) -> Answer:
    """Hold every member that has not committed its desired digest; those on trial go back. Raises RequestRefused."""
    group, members = _members(name, record, desired)
    pending = [spec for spec in members if not _arrived(record, spec)]
    if not pending:
        raise RequestRefused(
            f"group {name} has no rollout under way", hint="see `reconciler status` for its members"
        )
    held = tuple((spec.name, _change(record, spec)) for spec in pending)
    why = f"aborted by a person{': ' + reason if reason else ''}"
    hold = Hold(
        pending[0].name, pending[0].digest, why, now.wall, held,
        cause="person", revision=desired.revision if desired else None,
        key=held[0][1] if held[0][1] != pending[0].digest else Digest(""),
    )  # fmt: skip
    words = f"group {name}: rollout aborted; push something else or `retry {pending[0].name}`"
    put: list[Change] = [PutGroup(replace(group, hold=hold, progress=None))]
    return done(put, "aborted", words, now, group=GroupName(name))


def _arrived(record: Record, spec: VMSpec) -> bool:
    good = _good_of(record, spec)
    return good is not None and good.digest == spec.digest and not has_other_checks(good, spec)


def _change(record: Record, spec: VMSpec) -> Digest:
    """What it still has to change to: its digest, or only its checks."""
    good = _good_of(record, spec)
    return spec.rollout_key if good is not None and good.digest == spec.digest else spec.digest


def _good_of(record: Record, spec: VMSpec) -> Generation | None:
    vm = record.vms.get(spec.name)
    return vm.last_good if vm else None


def _members(
    name: str, record: Record, desired: DesiredState | None
) -> tuple[GroupRecord, list[VMSpec]]:
    members = [spec for spec in (desired.vms.values() if desired else ()) if spec.group == name]
    if not members:
        groups = (
            sorted({spec.group for spec in desired.vms.values() if spec.group}) if desired else []
        )
        raise RequestRefused(
            f"there is no group {name!r} with members", kind="unknown",
            hint=f"groups: {', '.join(groups) or 'none'}",
        )  # fmt: skip
    return record.groups.get(GroupName(name)) or GroupRecord(GroupName(name)), members


def _revision(desired: DesiredState | None) -> str:
    return desired.revision[:8] if desired else ""
