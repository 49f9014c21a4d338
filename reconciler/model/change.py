"""How a record changes: a ledger applies a sequence of these all, or not at all."""

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
    Suspension,
    VMRecord,
)


@dataclass(frozen=True, slots=True)
class PutVM:
    vm: VMRecord


@dataclass(frozen=True, slots=True)
class DropVM:
    name: VMName


@dataclass(frozen=True, slots=True)
class PutGroup:
    group: GroupRecord


@dataclass(frozen=True, slots=True)
class DropGroup:
    name: GroupName


@dataclass(frozen=True, slots=True)
class PutBuild:
    build: BuildTrouble


@dataclass(frozen=True, slots=True)
class DropBuild:
    key: str


@dataclass(frozen=True, slots=True)
class PutSource:
    source: SourceRecord


@dataclass(frozen=True, slots=True)
class PutSuspension:
    suspended: Suspension | None


@dataclass(frozen=True, slots=True)
class AddEvent:
    event: Event


@dataclass(frozen=True, slots=True)
class BeginIntent:
    intent: Intent


@dataclass(frozen=True, slots=True)
class EndIntent:
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
    | AddEvent
    | BeginIntent
    | EndIntent
)


def apply(record: Record, changes: tuple[Change, ...]) -> Record:
    """The record after these changes. Events and intents are the ledger's alone."""
    vms, groups, builds = dict(record.vms), dict(record.groups), dict(record.builds)
    source, suspended = record.source, record.suspended
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
            case AddEvent() | BeginIntent() | EndIntent():
                pass
            case _:
                assert_never(change)
    return Record(vms, groups, builds, source, suspended)
