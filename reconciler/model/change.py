"""Changes of a record. A ledger applies a sequence of them entirely or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from reconciler.model.event import Event
from reconciler.model.names import GroupName, VMName
from reconciler.model.record import (
    BuildTrouble,
    GroupRecord,
    Intent,
    Record,
    SourceRecord,
    StoreRecord,
    Suspension,
    VMRecord,
)


@dataclass(frozen=True, slots=True)
class PutVM:
    """Create or replace a VM's record."""

    vm: VMRecord


@dataclass(frozen=True, slots=True)
class DropVM:
    """Delete a VM's record."""

    name: VMName


@dataclass(frozen=True, slots=True)
class PutGroup:
    """Create or replace a group's record."""

    group: GroupRecord


@dataclass(frozen=True, slots=True)
class DropGroup:
    """Delete a group's record."""

    name: GroupName


@dataclass(frozen=True, slots=True)
class PutBuild:
    """Record that a build or operation failed, and when to retry it."""

    build: BuildTrouble


@dataclass(frozen=True, slots=True)
class DropBuild:
    """Forget a failed build or operation, by its stored TroubleKey."""

    key: str


@dataclass(frozen=True, slots=True)
class PutSource:
    """Replace the source's record."""

    source: SourceRecord


@dataclass(frozen=True, slots=True)
class PutSuspension:
    """Suspend the whole host, or end that (None)."""

    suspended: Suspension | None


@dataclass(frozen=True, slots=True)
class PutStore:
    """Replace the record of the image store."""

    store: StoreRecord


@dataclass(frozen=True, slots=True)
class AddEvent:
    """Append an event, in the same transaction as what it reports."""

    event: Event


@dataclass(frozen=True, slots=True)
class BeginIntent:
    """Record a side effect before it happens."""

    intent: Intent


@dataclass(frozen=True, slots=True)
class EndIntent:
    """Record how a side effect ended: done, failed or interrupted."""

    id: str
    outcome: str


Change = (
    PutVM
    | DropVM
    | PutGroup
    | DropGroup
    | PutBuild
    | DropBuild
    | PutSource
    | PutSuspension
    | PutStore
    | AddEvent
    | BeginIntent
    | EndIntent
)


def apply(record: Record, changes: tuple[Change, ...]) -> Record:
    """The record after these changes; events and intents are stored only in the ledger."""
    vms, groups, builds = dict(record.vms), dict(record.groups), dict(record.builds)
    source, suspended, store = record.source, record.suspended, record.store
    for change in changes:
        match change:
            case PutVM(vm):
                vms[vm.name] = vm
            case DropVM(name):
                vms.pop(name, None)
            case PutGroup(group):
                groups[group.name] = group
            case DropGroup(group_name):
                groups.pop(group_name, None)
            case PutBuild(build):
                builds[build.key] = build
            case DropBuild(key):
                builds.pop(key, None)
            case PutSource(put):
                source = put
            case PutSuspension(suspension):
                suspended = suspension
            case PutStore(put_store):
                store = put_store
            case AddEvent() | BeginIntent() | EndIntent():
                pass
            case _:
                assert_never(change)
    return Record(vms, groups, builds, source, suspended, store)
