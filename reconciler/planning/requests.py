"""A person's request as a change of the record: pure, refused with a reason, or durable."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import assert_never

from reconciler.errors import RequestRefused
from reconciler.model.desired import DesiredState
from reconciler.model.names import GroupName, VMName
from reconciler.model.record import (
    AddEvent,
    Change,
    Deadline,
    DropBuild,
    Event,
    Generation,
    GroupRecord,
    Pin,
    PutGroup,
    PutSuspension,
    PutVM,
    Record,
    Suspension,
    VMRecord,
)
from reconciler.model.request import Request, Restart, Resume, Retry, RollbackTo, Suspend
from reconciler.now import Now


@dataclass(frozen=True, slots=True)
class Answer:
    changes: tuple[Change, ...]
    words: str
    """What was done, for the person who asked."""


def answer(request: Request, record: Record, desired: DesiredState | None, now: Now) -> Answer:
    """What the request changes. Raises RequestRefused with what to do instead."""
    match request:
        case RollbackTo(vm):
            return _rollback(request, find_vm(record, vm), desired, now)
        case Retry(vm):
            return _retry(find_vm(record, vm), record, desired, now)
        case Suspend(subject, reason):
            return _suspension(record, desired, subject, Suspension(now.wall, reason), now)
        case Resume(subject):
            return _suspension(record, desired, subject, None, now)
        case Restart(vm):
            return _restart(find_vm(record, vm), now)
        case _:
            assert_never(request)


def find_vm(record: Record, name: str) -> VMRecord:
    """The VM of that name. Raises RequestRefused, naming the nearest."""
    found = record.vms.get(VMName(name))
    if found is None:
        near = difflib.get_close_matches(name, record.vms, n=3)
        hint = (
            f"did you mean {' or '.join(near)}?" if near else "see `reconciler status` for all VMs"
        )
        raise RequestRefused(f"there is no VM {name!r} on this host", kind="unknown", hint=hint)
    return found


def _done(changes: list[Change], kind: str, words: str, now: Now, vm: VMRecord | None) -> Answer:
    event = Event(kind, words, now.wall, vm=vm.name if vm else None, group=vm.group if vm else None)
    return Answer((*changes, AddEvent(event)), words)


def _rollback(request: RollbackTo, vm: VMRecord, desired: DesiredState | None, now: Now) -> Answer:
    committed = [g for g in vm.generations if g.verdict == "committed"]
    target = _rollback_target(vm, committed, request)
    spec = desired.vms.get(vm.name) if desired else None
    digest = spec.digest if spec else target.digest
    changed = replace(
        vm, pin=Pin(target.number, digest, now.wall), rollback=None, quarantine=None, backoff=None
    )
    words = f"{vm.name}: kept at generation {target.number} until a new digest or `resume`"
    return _done([PutVM(changed)], "pinned", words, now, vm)


def _rollback_target(vm: VMRecord, committed: list[Generation], request: RollbackTo) -> Generation:
    known = ", ".join(str(g.number) for g in committed) or "none"
    if request.to is not None:
        for generation in committed:
            if generation.number == request.to:
                return generation
        raise RequestRefused(
            f"{vm.name} has no committed generation {request.to}", hint=f"committed: {known}"
        )
    running = vm.start.generation if vm.start else None
    older = [g for g in committed if running is None or g.number < running]
    if not older:
        raise RequestRefused(
            f"{vm.name} has no committed generation before the one that runs",
            hint=f"committed: {known}",
        )
    return older[-1]


def _retry(vm: VMRecord, record: Record, desired: DesiredState | None, now: Now) -> Answer:
    changes: list[Change] = [
        PutVM(replace(vm, blocked=(), quarantine=None, rollback=None, backoff=None))
    ]
    group = record.groups.get(vm.group)
    if group is not None and group.hold is not None:
        changes.append(PutGroup(replace(group, hold=None)))
    spec = desired.vms.get(vm.name) if desired else None
    keys = {f"{kind}/{vm.name}" for kind in ("create", "start", "stop", "remove")}
    if spec is not None:
        keys |= {spec.kernel.key, *(layer.key for layer in spec.layers)}
    changes.extend(DropBuild(key) for key in sorted(keys) if key in record.builds)
    words = f"{vm.name}: what was condemned or given up is tried once more"
    return _done(changes, "retried", words, now, vm)


def _restart(vm: VMRecord, now: Now) -> Answer:
    if vm.start is None:
        raise RequestRefused(
            f"{vm.name} has no guest to restart", hint=f"see `reconciler status {vm.name}`"
        )
    backoff = vm.backoff
    if backoff is not None:
        backoff = replace(backoff, until=Deadline(now.boot, now.boot_id))
    changed = replace(vm, restart=vm.start.instance, backoff=backoff)
    return _done([PutVM(changed)], "restart-requested", f"{vm.name}: restarting", now, vm)


def _suspension(
    record: Record, desired: DesiredState | None, subject: str | None,
    suspension: Suspension | None, now: Now,
) -> Answer:  # fmt: skip
    verb, kind = ("suspended", "suspended") if suspension else ("resumed", "resumed")
    if subject is None:
        return _done([PutSuspension(suspension)], kind, f"this host is {verb}", now, None)
    vm = record.vms.get(VMName(subject))
    if vm is not None:
        pin = vm.pin if suspension else None
        changed = replace(vm, suspended=suspension, pin=pin)
        return _done([PutVM(changed)], kind, f"{subject} is {verb}", now, vm)
    name = GroupName(subject)
    if name in record.groups or (desired is not None and name in _groups(desired)):
        group = record.groups.get(name) or GroupRecord(name)
        words = f"group {subject} is {verb}"
        return _done([PutGroup(replace(group, suspended=suspension))], kind, words, now, None)
    find_vm(record, subject)  # raises, naming the nearest
    raise AssertionError(subject)


def _groups(desired: DesiredState) -> set[GroupName]:
    return set(desired.groups) | {spec.group for spec in desired.vms.values() if spec.group}
