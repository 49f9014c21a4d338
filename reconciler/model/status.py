"""The status of the host as one value: what `status`, `/metrics` and the page show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reconciler.model.build_progress import BuildStatus
from reconciler.model.health import ProbeResult
from reconciler.model.names import Digest, GenerationNumber, GroupName, Revision, VMName
from reconciler.model.store_status import StoreStatus

VMState = Literal["running", "stopped", "starting", "stopping", "failed", "unknown"]
SyncState = Literal["synced", "out-of-sync", "blocked", "suspended", "unknown"]
RolloutState = Literal["idle", "running", "held", "suspended"]


@dataclass(frozen=True, slots=True)
class GenerationNumbers:
    """Numbers of a VM's generations; None for those it does not have."""

    running: GenerationNumber | None
    desired: GenerationNumber | None
    """The generation of the desired digest, or the number it will get."""
    last_good: GenerationNumber | None


@dataclass(frozen=True, slots=True)
class RevisionStatus:
    """The newest revision, what was applied, and what was rejected."""

    observed: str | None
    applied: str | None
    rejected: str | None = None
    problems: tuple[str, ...] = ()
    seen_wall: float | None = None
    """When the observed one was first seen."""
    rejected_wall: float | None = None
    result: str = ""
    """A `Conclusion` about the observed revision; empty: none was observed."""
    why: str = ""
    changed: int = 0
    """VMs that it changed and that no newer one has changed since."""
    healthy: int = 0
    """Number of those that run as it declares and were seen healthy."""
    beside: tuple[str, ...] = ()
    """Troubles that it did not cause, each with the revision that did."""
    more_problems: int = 0
    """A lower bound on the number of further problems of the rejected revision."""

    @property
    def problem_count(self) -> int:
        """A lower bound on the number of problems of the rejected revision."""
        return len(self.problems) + self.more_problems


@dataclass(frozen=True, slots=True)
class WaitStatus:
    """One reason for not acting, with wall times."""

    kind: str
    """The kind of wait; a text, so that clients accept kinds of newer daemons."""
    why: str
    since_wall: float | None = None
    """When it began, if the record has that."""
    until_wall: float | None = None
    """When it ends, if time alone can end it."""


@dataclass(frozen=True, slots=True)
class RestartStatus:
    """A restart of a guest."""

    wall: float
    reason: str
    """crash, manual, rollback or rollout."""
    why: str = ""


@dataclass(frozen=True, slots=True)
class VMStatus:
    """The status of one VM."""

    name: VMName
    group: GroupName
    state: VMState
    healthy: bool
    sync: SyncState
    generation: GenerationNumbers
    pid: int | None
    why: str
    """A text: what it waits for, what failed, or what is being done. Empty if all is well."""
    digest: Digest | None = None
    instance: str | None = None
    started_wall: float | None = None
    probe: str = ""
    """The newest answer of its checks."""
    unasked: bool = False
    """Whether it served before and this daemon has not checked it yet: its health is unknown."""
    revision: Revision | None = None
    """The revision of the running generation."""
    suspended: bool = False
    blocked: int = 0
    """Number of condemned digests."""
    restarts: tuple[tuple[str, int], ...] = ()
    """Number of restarts by reason, over the VM's life."""
    restarted: RestartStatus | None = None
    """The newest of them."""
    crashes: int = 0
    """Crashes in a row, until it was steady for ten minutes."""
    alive: bool | None = None
    """By its liveness checks, or its init's announcements; None: no guest, or unknown yet."""
    ports: tuple[int, ...] = ()
    taps: tuple[str, ...] = ()
    """Names on the host, of the running guest."""
    candidate: GenerationNumber | None = None
    """The generation of a second guest, on trial beside the one that serves."""
    waits: tuple[WaitStatus, ...] = ()
    """The parts of `why`, the most serious first."""
    hypervisor: str = ""
    """Of the running guest, else of the desired one; empty: unknown."""


@dataclass(frozen=True, slots=True)
class ProbeStatus:
    """One round of a VM's checks, with its wall time."""

    wall: float
    result: ProbeResult
    seconds: float
    generation: GenerationNumber


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """The status of one group's rollout."""

    name: GroupName
    state: RolloutState
    members: int
    unavailable: int
    max_unavailable: int
    pending: int
    """Members that have not reached their desired generation."""
    hold: str = ""
    moving: tuple[VMName, ...] = ()
    """Members that are changing to their desired generation, or back from it."""
    line: tuple[VMName, ...] = ()
    """Members that wait for their turn, the next one first."""
    held: tuple[VMName, ...] = ()
    """Members that stay until a person acts."""
    deadline_wall: float | None = None
    """By when the next member must be healthy; None: no `progressDeadline`, or no rollout."""


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """The status of one source."""

    name: str
    url: str
    """Without credentials."""
    last_success_wall: float | None
    failures: int
    """Failed fetches in a row."""
    error: str = ""
    error_kind: str = ""
    """The kind of error; docs/operations/errors.md lists them."""


@dataclass(frozen=True, slots=True)
class HostStatus:
    """The status of the whole host."""

    revision: RevisionStatus
    vms: tuple[VMStatus, ...]
    groups: tuple[GroupStatus, ...]
    suspended: bool
    sources: tuple[SourceStatus, ...] = ()
    waits: tuple[str, ...] = ()
    alerts: tuple[str, ...] = ()
    """Troubles that need attention now: `ledger: disk full ...`."""
    store: StoreStatus = StoreStatus()
    builds: tuple[BuildStatus, ...] = ()
    """What is fetched and built now."""
