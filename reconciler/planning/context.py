"""A plan in the making: its inputs, and what was decided so far. It exists for one call of `plan`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, TypeVar

from reconciler.model.actions import Action
from reconciler.model.change import (
    AddEvent,
    Change,
    DropBuild,
    DropGroup,
    DropVM,
    PutBuild,
    PutGroup,
    PutSource,
    PutStore,
    PutVM,
)
from reconciler.model.desired import DesiredState, VMSpec
from reconciler.model.event import Event, EventKind, Severity
from reconciler.model.health import ProbePlan
from reconciler.model.lifecycle import Restarted
from reconciler.model.names import GenerationNumber, GroupName, InstanceId, Revision, VMName
from reconciler.model.observed import Guest, Observed
from reconciler.model.plan import FieldChange, Plan
from reconciler.model.policy import Policy
from reconciler.model.record import (
    BuildTrouble,
    GroupRecord,
    Record,
    SourceRecord,
    StoreRecord,
    Suspension,
    VMRecord,
)
from reconciler.model.revision_result import owners
from reconciler.model.trouble import TroubleKey
from reconciler.model.waits import Wait, WaitKind
from reconciler.now import Deadline, Now
from reconciler.planning import guest_health, guest_roles
from reconciler.planning.guest_health import GuestHealth, Judgement

T = TypeVar("T")


class StepResult(Enum):
    """What a step did about its VM."""

    ACTED = "acted"
    """It decided something: nothing else is done to this VM in this pass."""
    WAITING = "waiting"
    """Something must end first, which the plan's waits say, or an operation under way."""
    SKIP = "skip"
    """It has nothing to do, or lets the next step go on meanwhile."""


@dataclass(slots=True)
class VMContext:
    """One VM in a pass: what is desired, recorded and running."""

    name: VMName
    spec: VMSpec | None
    """None: the desired state does not have it."""
    record: VMRecord
    guest: Guest | None
    """The living guest; where there are two, the one that serves."""
    health: GuestHealth | None = None
    """Of the living guest; None where there is none, or nothing to judge it by."""
    successor: VMName | None = None
    """The desired name under which it goes on; `spec` is what that one wants."""
    busy: bool = False
    disturbed: bool = False
    """What it is busy with concerns the guest that serves."""
    candidate: Guest | None = None
    """A living guest beside the one that serves, on trial."""
    leaving: Guest | None = None
    """Another than the serving one, which was asked to stop."""
    unknown: Guest | None = None
    ready: bool = False
    """Its candidate may be committed, and may thus take over."""
    acted: bool = False
    """Something was decided for it in this pass; one action a VM a pass."""

    @property
    def desired_name(self) -> VMName:
        """Its name in the desired state."""
        return self.successor or self.name

    @property
    def group(self) -> GroupName:
        """The group whose policy applies."""
        return (
            self.spec.rollout_group
            if self.spec
            else self.record.group or GroupName(f"~{self.name}")
        )

    @property
    def running(self) -> GenerationNumber | None:
        """The generation of the serving guest."""
        return self.guest.generation if self.guest else None

    @property
    def judgement(self) -> Judgement | None:
        """Whether the living guest may serve."""
        return self.health.judgement if self.health else None

    @property
    def unhealthy(self) -> str:
        """Why the living guest must be restarted; empty: it need not be."""
        return self.health.why_restart if self.health else ""

    @property
    def looping(self) -> bool:
        """Whether it is in a crash loop."""
        return self.health is not None and self.health.looping

    @property
    def stopping(self) -> bool:
        """Whether the serving guest was asked to stop."""
        stop, guest = self.record.stop, self.guest
        return stop is not None and (guest is None or stop.instance == guest.instance)

    @property
    def available(self) -> bool:
        """Whether it serves, and may be expected to keep serving."""
        health = self.health
        return self.serving and health is not None and not health.looping

    @property
    def serving(self) -> bool:
        """Alive, healthy, its generation committed, and no stop of it was begun."""
        guest, health = self.guest, self.health
        if guest is None or health is None or health.judgement != "healthy":
            return False
        if self.disturbed or self.stopping:
            return False
        if self.record.rollback is not None:
            return False
        generation = self.record.generation(guest.generation)
        return generation is not None and generation.verdict == "committed"

    @property
    def down(self) -> bool:
        """Whether it certainly does not serve, so that taking its guest away is no outage.

        A guest that was not checked yet, as after a restart of the daemon, may well be serving.
        """
        guest = self.guest
        if guest is None or self.judgement == "unhealthy" or self.record.rollback is not None:
            return True
        generation = self.record.generation(guest.generation)
        if generation is None or generation.verdict != "committed":
            return True
        return self.judgement == "starting" and guest.health.failures > 0

    @property
    def synced(self) -> bool:
        """Whether it serves what is desired."""
        good = self.record.last_good
        return (
            self.spec is not None
            and self.successor is None
            and good is not None
            and good.digest == self.spec.digest
            and good.number == self.running
            and not guest_health.has_other_checks(good, self.spec)
            and self.available
        )


@dataclass
class PlanBuilder:
    """Collects the decisions of one pass."""

    desired: DesiredState | None
    observed: Observed
    record: Record
    now: Now
    policy: Policy
    vms: dict[VMName, VMContext] = field(default_factory=dict)
    renames: dict[VMName, VMName] = field(default_factory=dict)
    """By desired name the VM that is about to take that name."""
    refused_renames: dict[VMName, str] = field(default_factory=dict)
    """VMs whose `movedFrom` names what cannot be taken over, with why."""
    groups: dict[GroupName, GroupRecord | None] = field(default_factory=dict)
    """Changed group records; None: dropped."""
    troubles: dict[TroubleKey, BuildTrouble | None] = field(default_factory=dict)
    source: SourceRecord | None = None
    store: StoreRecord | None = None
    moved: set[VMName] = field(default_factory=set)
    """VMs that name a tag which means another image from the next pass on."""
    actions: list[Action] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    more: list[Change] = field(default_factory=list)
    """Changes of the host as a whole."""
    dropped: list[VMName] = field(default_factory=list)
    wake: float | None = None
    probes: dict[InstanceId, ProbePlan] = field(default_factory=dict)
    trial_probes: dict[InstanceId, ProbePlan] = field(default_factory=dict)
    named: frozenset[str] = frozenset()
    differences: dict[VMName, tuple[FieldChange, ...]] = field(default_factory=dict)
    at_stake: set[VMName] | None = None
    memory_left: int = 0
    """MiB that may still be given to guests in this pass."""
    suspended: Suspension | None = None
    """Of the whole host."""
    disk_full: bool = False
    """A build found the disk full, for the first time."""
    sent_back: frozenset[VMName] = frozenset()
    """VMs that a hold sends back, though they serve what is desired."""
    _failures: list[float] | None = None
    _made: dict[str, Any] = field(default_factory=dict)

    def once(self, name: str, make: Callable[[PlanBuilder], T]) -> T:
        """A value that is computed on first use and cached for this pass."""
        if name not in self._made:
            self._made[name] = make(self)
        found: T = self._made[name]
        return found

    def add_vm(
        self, name: VMName, spec: VMSpec | None, record: VMRecord | None = None
    ) -> VMContext:
        """Add a VM to the pass, and assign its guests."""
        record = record or self.record.vms.get(name)
        record = record or VMRecord(name, spec.group if spec else GroupName(""))
        vm = VMContext(name, spec, record, None, busy=name in self.observed.busy)
        self.assign_guests(vm)
        self.vms[name] = vm
        return vm

    def assign_guests(self, vm: VMContext) -> None:
        """Assign roles to the VM's guests by its current record."""
        name, record = vm.name, vm.record
        found = guest_roles.assign_roles(record, self.observed.guests.get(name, ()))
        guest = vm.guest = found.serving
        vm.candidate, vm.leaving = found.candidate, found.leaving
        vm.unknown, vm.health = found.unknown, None
        vm.disturbed = guest_roles.disturbs(self.observed.busy.get(name), record, guest)
        generation = record.generation(guest.generation) if guest else None
        judged_by = generation.spec if generation else vm.spec
        if guest is not None and judged_by is not None:
            vm.health = guest_health.assess(guest, judged_by.health, record, self.now)

    def desired_as(self, name: VMName) -> VMContext | None:
        """The VM that has, or will have, this desired name."""
        return self.vms.get(self.renames.get(name, name))

    def do(self, vm: VMContext, action: Action) -> StepResult:
        """Add an action for a VM."""
        vm.acted = True
        self.actions.append(action)
        return StepResult.ACTED

    def wait(
        self, kind: WaitKind, subject: VMName | GroupName, why: str, until: float | None = None
    ) -> None:
        """Add a reason for not acting, with the boot-clock time at which it may end."""
        self.waits.append(Wait(kind, subject, why, until))
        if until is not None:
            self.wake_at(until)

    def wake_at(self, moment: float) -> None:
        """Have the next pass no later than this boot-clock time."""
        self.wake = moment if self.wake is None else min(self.wake, moment)

    def event(
        self, kind: EventKind, message: str, vm: VMContext | None = None,
        severity: Severity = "info", generation: GenerationNumber | None = None,
        group: GroupName | None = None, revision: Revision | None = None,
    ) -> None:  # fmt: skip
        """Add an event. Its revision is that of the generation, else the one that caused it."""
        self.events.append(
            Event(
                kind=kind,
                message=message,
                wall=self.now.wall,
                vm=vm.name if vm else None,
                group=group or ((vm.record.group or None) if vm else None),
                generation=generation,
                revision=revision or self._origin(vm, generation),
                severity=severity,
            )
        )

    def _origin(self, vm: VMContext | None, number: GenerationNumber | None) -> Revision | None:
        made = vm.record.generation(number) if vm and number is not None else None
        if made is not None:
            return made.revision
        return self.origin(vm) if vm else self._desired_revision()

    def origin(self, vm: VMContext) -> Revision | None:
        """The revision that last changed what is desired of this VM."""
        changed_by = self.once("owners", lambda plan: owners(plan.record.source.revisions))
        if (revision := changed_by.get(vm.desired_name)) is not None:
            return revision
        wanted = vm.spec.digest if vm.spec else None
        for generation in reversed(vm.record.generations):
            if generation.digest == wanted:
                return generation.revision
        return self._desired_revision()

    def _desired_revision(self) -> Revision | None:
        return self.desired.revision if self.desired else None

    def deadline(self, seconds: float) -> Deadline:
        """A deadline so many seconds from now."""
        return Deadline(self.now.boot + seconds, self.now.boot_id)

    def group_record(self, name: GroupName) -> GroupRecord:
        """The group's record, as changed so far."""
        changed = self.groups.get(name)
        return changed or self.record.groups.get(name) or GroupRecord(name)

    @property
    def store_record(self) -> StoreRecord:
        """The record of the store, as changed so far."""
        return self.store or self.record.store

    def recent_failures(self, seconds: float) -> list[float]:
        """Wall times of recently condemned generations of the whole host.

        A clock that was set back makes times in the future; those far ahead are ignored.
        """
        if self._failures is None:
            self._failures = [
                block.last_wall
                for vm in self.vms.values()
                for block in vm.record.blocked
                if abs(self.now.wall - block.last_wall) < seconds
            ]
        return self._failures

    def trouble(self, key: TroubleKey) -> BuildTrouble | None:
        """The recorded failure with this key, as changed so far."""
        return self.troubles[key] if key in self.troubles else self.record.builds.get(str(key))

    def pausing(self, key: TroubleKey) -> BuildTrouble | None:
        """A recent failure whose pause is not over."""
        trouble = self.trouble(key)
        return trouble if trouble is not None and not trouble.retry.passed(self.now) else None

    def clear_trouble(self, key: TroubleKey) -> None:
        """Forget a failure."""
        if self.trouble(key) is not None:
            self.troubles[key] = None

    def finish(self) -> Plan:
        """The finished plan."""
        return Plan(
            actions=tuple(self.actions),
            waits=tuple(self.waits),
            changes=tuple(self._changes()),
            wake_at=self.wake,
            probes=self.probes,
            trial_probes=self.trial_probes,
            named=self.named,
            differences=self.differences,
        )

    def _changes(self) -> list[Change]:
        changes: list[Change] = []
        gone = set(self.dropped)
        for name, vm in self.vms.items():
            if name in gone:
                changes.append(DropVM(name))
            elif (before := self.record.vms.get(name)) is not vm.record and (
                before is not None or vm.record.next_number > 1 or vm.record.start
            ):
                changes.append(PutVM(vm.record))
        for group_name, group in self.groups.items():
            changes.append(PutGroup(group) if group else DropGroup(group_name))
        for key, trouble in self.troubles.items():
            changes.append(PutBuild(trouble) if trouble else DropBuild(str(key)))
        if self.source is not None:
            changes.append(PutSource(self.source))
        if self.store is not None:
            changes.append(PutStore(self.store))
        changes.extend(self.more)
        changes.extend(AddEvent(event) for event in self.events)
        return changes


def count_restart(record: VMRecord, reason: str, wall: float, why: str = "") -> VMRecord:
    """The record with one more restart for this reason, at this moment."""
    counts: Mapping[str, int] = dict(record.restarts)
    return replace(
        record,
        restarts=tuple(sorted({**counts, reason: counts.get(reason, 0) + 1}.items())),
        restarted=Restarted(wall, reason, why),
    )
