"""Turns a person's request into changes of the record, or refuses it with a reason. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import assert_never

from reconciler.errors import ALL_NAMES, RequestRefused, did_you_mean
from reconciler.model import trouble
from reconciler.model.change import (
    Change,
    DropBuild,
    PutGroup,
    PutSuspension,
    PutVM,
)
from reconciler.model.desired import DesiredState
from reconciler.model.event import EventKind
from reconciler.model.image_tags import tags_of
from reconciler.model.names import GroupName, VMName
from reconciler.model.record import (
    Generation,
    GroupRecord,
    Pin,
    Record,
    Suspension,
    VMRecord,
)
from reconciler.model.request import (
    Abort,
    AcceptRewrite,
    Adopt,
    CollectImages,
    Confirm,
    Promote,
    Remove,
    Request,
    ResolveTags,
    RestartVM,
    Resume,
    Retry,
    RollbackTo,
    Suspend,
)
from reconciler.model.trouble import TroubleKey
from reconciler.now import Deadline, Now
from reconciler.planning.intake.deadlines import restart_clocks
from reconciler.planning.steps.adoption import NOT_DESIRED
from reconciler.requests.approval import abort, promote
from reconciler.requests.image_store import collect, resolve
from reconciler.requests.removal import confirm, remove_one
from reconciler.requests.result import Answer, done
from reconciler.requests.source_changes import accept_rewrite

MOST_NAMED = 8
"""Members of a group that a hint lists."""


def answer(
    request: Request, record: Record, desired: DesiredState | None, now: Now, *, prune: bool = True
) -> Answer:
    """The changes that a request makes. Raises RequestRefused with a hint what to do instead.

    `prune`: whether this host removes VMs that leave the repository.
    """
    match request:
        case RollbackTo(vm):
            found = _rollback(request, find_vm(record, vm, desired), record, desired, now)
        case Retry(vm):
            found = _retry(find_vm(record, vm, desired), record, desired, now)
        case Suspend(subject, reason, seconds):
            until = None if seconds is None else now.wall + seconds
            given = Suspension(now.wall, reason, until)
            found = _suspension(record, desired, subject, given, now)
        case Resume(subject):
            found = _suspension(record, desired, subject, None, now)
        case RestartVM(vm):
            found = _restart(find_vm(record, vm, desired), now)
        case Promote(group):
            found = promote(group, record, desired, now)
        case Abort(group, reason):
            found = abort(group, reason, record, desired, now)
        case Confirm() | AcceptRewrite() | CollectImages() | ResolveTags():
            found = _of_host(request, record, desired, now, prune=prune)
        case Remove(vm):
            found = remove_one(find_vm(record, vm, desired), desired, now)
        case Adopt(vm):
            found = _adopt(find_vm(record, vm, desired), now)
        case _:
            assert_never(request)
    return found


def _of_host(
    request: Confirm | AcceptRewrite | CollectImages | ResolveTags,
    record: Record,
    desired: DesiredState | None,
    now: Now,
    *,
    prune: bool,
) -> Answer:
    match request:
        case Confirm(revision):
            return confirm(revision, record, now, prune=prune)
        case AcceptRewrite(revision):
            return accept_rewrite(revision, record, now)
        case CollectImages():
            return collect(record, desired, now)
        case ResolveTags(tag):
            return resolve(tag, record, desired, now)
        case _:
            assert_never(request)


def find_vm(record: Record, name: str, desired: DesiredState | None = None) -> VMRecord:
    """The VM of this name. Raises RequestRefused with the most similar names."""
    found = record.vms.get(VMName(name))
    if found is not None:
        return found
    find_declared(desired, name)
    groups = {vm.name: vm.group for vm in record.vms.values()}
    groups |= {spec.name: spec.group for spec in desired.vms.values()} if desired else {}
    members = [vm for vm, group in groups.items() if group == name]
    hint = did_you_mean(name, groups, ALL_NAMES, 3)
    if members:
        hint = f"that is a group; its members: {', '.join(sorted(members)[:MOST_NAMED])}"
    raise RequestRefused(f"there is no VM {name!r} on this host", kind="unknown", hint=hint)


def find_declared(desired: DesiredState | None, name: str) -> None:
    """Raise RequestRefused for a VM that is declared but was never started."""
    if desired is not None and name in desired.vms:
        raise RequestRefused(
            f"{name} is declared but was never started: it has no generation yet",
            hint=f"`reconciler why {name}` says what it waits for; its group or the host can be suspended",
        )


def _rollback(
    request: RollbackTo, vm: VMRecord, record: Record, desired: DesiredState | None, now: Now
) -> Answer:
    committed = [g for g in vm.generations if g.verdict == "committed"]
    target = _rollback_target(vm, committed, request)
    spec = desired.vms.get(vm.name) if desired else None
    digest = spec.digest if spec else target.digest
    changed = replace(
        vm, pin=Pin(target.number, digest, now.wall), rollback=None, quarantine=None, backoff=None
    )
    words = f"{vm.name}: kept at generation {target.number} until a new digest or `resume`"
    changes = [PutVM(changed), *_tried_at_once(vm.name, record)]
    return done(changes, "pinned", words, now, vm)


def _tried_at_once(vm: VMName, record: Record) -> list[Change]:
    """Drop the pause after an earlier rollback that failed to start."""
    key = str(TroubleKey("candidate", vm))
    return [DropBuild(key)] if key in record.builds else []


def _rollback_target(vm: VMRecord, committed: list[Generation], request: RollbackTo) -> Generation:
    known = ", ".join(str(g.number) for g in committed) or "none"
    if request.to is not None:
        for generation in committed:
            if generation.number == request.to:
                return generation
        raise RequestRefused(
            f"{vm.name} has no committed generation {request.to}", hint=f"committed: {known}"
        )
    newest = vm.candidate or vm.start
    running = newest.generation if newest else None
    older = [g for g in committed if running is None or g.number < running]
    if not older:
        raise RequestRefused(
            f"{vm.name} has no committed generation before the one that runs",
            hint=f"committed: {known}",
        )
    return older[-1]


def _retry(vm: VMRecord, record: Record, desired: DesiredState | None, now: Now) -> Answer:
    lifted = replace(
        vm,
        blocked=(),
        blocked_checks=(),
        quarantine=None,
        rollback=None,
        backoff=None,
        finished=None,
    )
    changes: list[Change] = [PutVM(lifted)] if lifted != vm else []
    group = record.groups.get(vm.group)
    if group is not None and group.hold is not None:
        changes.append(PutGroup(replace(group, hold=None)))
    spec = desired.vms.get(vm.name) if desired else None
    keys = {str(key) for key in trouble.of_vm(vm.name)}
    if spec is not None:
        keys.update(spec.image_keys)
        keys.update(str(TroubleKey(trouble.LOOK_UP, str(tag))) for tag in tags_of(spec))
    changes.extend(DropBuild(key) for key in sorted(keys) if key in record.builds)
    if not changes:
        raise RequestRefused(
            f"nothing of {vm.name} is condemned, held or failed",
            hint=f"`reconciler why {vm.name}` says what it waits for, `restart` replaces its guest",
        )
    words = f"{vm.name}: what was condemned or failed is tried again"
    return done(changes, "retried", words, now, vm)


def _restart(vm: VMRecord, now: Now) -> Answer:
    if vm.start is None and vm.finished is not None:
        words = f"{vm.name}: starting, although it ended by itself"
        return done([PutVM(replace(vm, finished=None))], "restart-requested", words, now, vm)
    if vm.start is None and vm.backoff is not None:
        soon = replace(vm.backoff, until=Deadline(now.boot, now.boot_id))
        words = f"{vm.name}: starting without further delay"
        return done([PutVM(replace(vm, backoff=soon))], "restart-requested", words, now, vm)
    if vm.start is None:
        raise RequestRefused(
            f"{vm.name} has no guest to restart", hint=f"see `reconciler status {vm.name}`"
        )
    backoff = vm.backoff
    if backoff is not None:
        backoff = replace(backoff, until=Deadline(now.boot, now.boot_id))
    changed = replace(vm, restart=vm.start.instance, backoff=backoff)
    return done([PutVM(changed)], "restart-requested", f"{vm.name}: restarting", now, vm)


def _suspension(
    record: Record, desired: DesiredState | None, subject: str | None,
    suspension: Suspension | None, now: Now,
) -> Answer:  # fmt: skip
    kind: EventKind = "suspended" if suspension else "resumed"
    verb = f"{kind}: {suspension.reason}" if suspension and suspension.reason else kind
    if subject is None:
        changes = [
            PutSuspension(suspension),
            *_clocks(record, record.vms.values(), suspension, now),
        ]
        return done(changes, kind, f"this host is {verb}", now, None)
    vm, name = _subject(record, desired, subject)
    if vm is not None:
        pin = vm.pin if suspension else None
        resumed = vm if suspension else restart_clocks(vm, now)
        changed = replace(resumed, suspended=suspension, pin=pin)
        return done([PutVM(changed)], kind, f"{vm.name} is {verb}", now, vm)
    group = record.groups.get(name) or GroupRecord(name)
    members = [v for v in record.vms.values() if v.group == name]
    put = PutGroup(replace(group, suspended=suspension))
    words = f"group {name} is {verb}"
    return done([put, *_clocks(record, members, suspension, now)], kind, words, now, None)


def _subject(
    record: Record, desired: DesiredState | None, subject: str
) -> tuple[VMRecord | None, GroupName]:
    """The VM or the group of this name. Raises RequestRefused if it is ambiguous or unknown."""
    kind, _, name = subject.rpartition("/")
    vm = record.vms.get(VMName(name)) if kind != "group" else None
    known = set(record.groups) | (_groups(desired) if desired is not None else set())
    group = GroupName(name) in known and kind != "vm"
    if vm is not None and group:
        raise RequestRefused(
            f"{name} is both a VM and a group",
            hint=f"write vm/{name} or group/{name}",
        )
    if vm is None and not group and kind != "group":
        find_declared(desired, name)
    if vm is None and not group:
        what = {"vm": "VM", "group": "group"}.get(kind, "VM and no group")
        raise RequestRefused(
            f"there is no {what} {name!r} on this host",
            kind="unknown",
            hint=did_you_mean(
                name, {*known, *record.vms, *(desired.vms if desired else ())}, ALL_NAMES, 3
            ),
        )
    return vm, GroupName(name)


def _clocks(
    record: Record, vms: Iterable[VMRecord], suspension: Suspension | None, now: Now
) -> Iterator[Change]:
    """On resuming, restart the deadlines that were paused."""
    for vm in vms if suspension is None else ():
        changed = restart_clocks(vm, now)
        if changed != record.vms[vm.name]:
            yield PutVM(changed)


def _adopt(vm: VMRecord, now: Now) -> Answer:
    if vm.suspended is None or vm.suspended.reason != NOT_DESIRED:
        raise RequestRefused(
            f"{vm.name} is not waiting to be adopted", hint=f"see `reconciler why {vm.name}`"
        )
    words = f"{vm.name}: what runs is accepted as its last good generation"
    return done([PutVM(replace(vm, suspended=None))], "adopted", words, now, vm)


def _groups(desired: DesiredState) -> set[GroupName]:
    return set(desired.groups) | {spec.group for spec in desired.vms.values() if spec.group}
