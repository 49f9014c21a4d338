"""What the control API tells of VMs, plans and events, as values that both sides know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.explain.image_advice import Advice
from reconciler.model.build_progress import BuildStatus
from reconciler.model.event import Event
from reconciler.model.names import Digest, GenerationNumber, GroupName, Revision, VMName
from reconciler.model.plan import FieldChange
from reconciler.model.record import Evidence, Verdict
from reconciler.model.status import GroupStatus, ProbeStatus, RevisionStatus, SourceStatus, VMStatus


@dataclass(frozen=True, slots=True)
class Step:
    """One action of a plan: `start web generation 4: why`."""

    kind: str
    subject: str
    why: str
    generation: GenerationNumber | None = None


@dataclass(frozen=True, slots=True)
class PlannedEvent:
    """What the plan decides beside its actions, as the event that will say so."""

    kind: str
    subject: str
    """The VM or group; empty: the host."""
    message: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """One reason for not acting; `seconds` from now, where time alone can end it."""

    kind: str
    subject: str
    why: str
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class PlanAnswer:
    """What the next pass would do, and what it waits for."""

    changed: bool
    """Whether anything is done now, or will be without a person, or differs."""
    actions: tuple[Step, ...]
    waits: tuple[Waiting, ...]
    differences: Mapping[VMName, tuple[FieldChange, ...]]
    events: tuple[PlannedEvent, ...] = ()
    wake_in: float | None = None
    """Seconds until the next deadline; None: only an event can change anything."""
    vms: int = 0
    healthy: int = 0
    unseen: str = ""
    """Why what is desired may not be the newest: the source cannot be read, or its revision is refused."""


@dataclass(frozen=True, slots=True)
class GenerationBrief:
    """One generation; moments are Unix seconds, 0 for never."""

    number: GenerationNumber
    verdict: Verdict
    revision: Revision
    digest: Digest
    created_wall: float
    verdict_wall: float = 0.0
    reason: str = ""
    evidence: Evidence | None = None


@dataclass(frozen=True, slots=True)
class BlockedBrief:
    """A digest that failed and is not started again by itself."""

    digest: Digest
    generation: GenerationNumber
    reason: str
    attempts: int
    last_wall: float
    first_wall: float = 0.0
    evidence: Evidence | None = None
    """None when its generation was dropped since."""
    revision: Revision | None = None
    """The one that caused it."""


@dataclass(frozen=True, slots=True)
class RefusedBrief:
    """Changed checks that a VM's guest did not pass; it serves on by its former ones."""

    revision: Revision
    reason: str
    attempts: int
    last_wall: float
    first_wall: float = 0.0
    withdrawn: bool = False
    """The desired state asks for others by now."""


@dataclass(frozen=True, slots=True)
class HistoryAnswer:
    """What is remembered of one VM."""

    vm: VMName
    group: GroupName
    generations: tuple[GenerationBrief, ...]
    """Newest first."""
    blocked: tuple[BlockedBrief, ...] = ()
    pinned: GenerationNumber | None = None
    """A person's `rollback` holds this one."""
    quarantine: str = ""
    suspended: str = ""
    """Why, or `by request`; empty when it is not."""
    refused_checks: tuple[RefusedBrief, ...] = ()


@dataclass(frozen=True, slots=True)
class VMAnswer:
    """One VM in the shape of the fleet's status, with its history."""

    revision: RevisionStatus
    vms: tuple[VMStatus, ...]
    groups: tuple[GroupStatus, ...]
    suspended: bool
    sources: tuple[SourceStatus, ...] = ()
    alerts: tuple[str, ...] = ()
    history: HistoryAnswer | None = None
    builds: tuple[BuildStatus, ...] = ()
    """What is fetched and built for it now."""


@dataclass(frozen=True, slots=True)
class WhyAnswer:
    """Why one VM is as it is: what it waits for, and what was condemned on what evidence."""

    revision: RevisionStatus
    vm: VMStatus
    condemned: tuple[BlockedBrief, ...] = ()
    """What is desired now first, then the newest."""
    groups: tuple[GroupStatus, ...] = ()
    """Its own."""
    suspended: bool = False
    sources: tuple[SourceStatus, ...] = ()
    alerts: tuple[str, ...] = ()
    advice: tuple[Advice, ...] = ()
    """What its images say, and its manifest does not."""
    builds: tuple[BuildStatus, ...] = ()
    """What is fetched and built for it now."""


@dataclass(frozen=True, slots=True)
class DiffAnswer:
    """The fields that differ between two generations of a VM."""

    vm: VMName
    a: GenerationNumber
    b: GenerationNumber
    changes: tuple[FieldChange, ...] = ()


@dataclass(frozen=True, slots=True)
class ProbesAnswer:
    """The newest rounds of a VM's checks."""

    vm: VMName
    rounds: tuple[ProbeStatus, ...] = ()
    """Oldest first."""


@dataclass(frozen=True, slots=True)
class EventsAnswer:
    """Events in their order, oldest first."""

    events: tuple[Event, ...] = ()
