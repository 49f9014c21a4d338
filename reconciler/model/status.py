"""The whole truth for people and scripts, as one value: what `status`, `/metrics` and the page show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reconciler.model.health import ProbeResult
from reconciler.model.names import Digest, GenerationNumber, GroupName, Revision, VMName

VMState = Literal["running", "stopped", "starting", "stopping", "failed", "unknown"]
SyncState = Literal["synced", "out-of-sync", "blocked", "suspended", "unknown"]
RolloutState = Literal["idle", "running", "held", "suspended"]


@dataclass(frozen=True, slots=True)
class GenerationNumbers:
    running: GenerationNumber | None
    desired: GenerationNumber | None
    """The generation that the desired digest has, or will have."""
    last_good: GenerationNumber | None


@dataclass(frozen=True, slots=True)
class RevisionStatus:
    observed: str | None
    applied: str | None
    rejected: str | None = None
    problems: tuple[str, ...] = ()
    seen_wall: float | None = None
    """When the observed one was first seen."""
    rejected_wall: float | None = None
    result: str = ""
    """What became of the observed one: see `model.result`. Empty: none was observed."""
    why: str = ""
    changed: int = 0
    """VMs that it changed and that no newer one has changed since."""
    healthy: int = 0
    """How many of those run what it says and were seen healthy."""
    beside: tuple[str, ...] = ()
    """Trouble that it did not cause, each with the revision that did."""
    more_problems: int = 0
    """Of the rejected revision, beside those listed, at least."""

    @property
    def problem_count(self) -> int:
        return len(self.problems) + self.more_problems


@dataclass(frozen=True, slots=True)
class WaitStatus:
    """One reason for not acting, by people's clock."""

    kind: str
    """A kind of wait; a text, so that what shows it need not know all that plans are made of."""
    why: str
    since_wall: float | None = None
    """Where something remembered says so."""
    until_wall: float | None = None
    """Where time alone can end it."""


@dataclass(frozen=True, slots=True)
class RestartStatus:
    """A guest that was started anew."""

    wall: float
    reason: str
    """crash, manual, rollback or rollout."""
    why: str = ""


@dataclass(frozen=True, slots=True)
class VMStatus:
    name: VMName
    group: GroupName
    state: VMState
    healthy: bool
    sync: SyncState
    generation: GenerationNumbers
    pid: int | None
    why: str
    """In words: what it waits for, what failed, or what is being done. Empty when all is well."""
    digest: Digest | None = None
    instance: str | None = None
    started_wall: float | None = None
    probe: str = ""
    """The newest answer of its checks."""
    unasked: bool = False
    """It served, and this daemon has not asked it yet: its health is not known."""
    revision: Revision | None = None
    """Of which the generation that runs was made."""
    suspended: bool = False
    blocked: int = 0
    """Condemned digests that are remembered."""
    restarts: tuple[tuple[str, int], ...] = ()
    """How often a guest was started anew, by reason, over the VM's life."""
    restarted: RestartStatus | None = None
    """The newest of them."""
    crashes: int = 0
    """Crashes in a row, until it was steady for ten minutes."""
    alive: bool | None = None
    """Its checks of liveness, or what its init said; None: no guest, or not known yet."""
    ports: tuple[int, ...] = ()
    taps: tuple[str, ...] = ()
    """Of the guest that runs, by their names on the host."""
    candidate: GenerationNumber | None = None
    """The generation of a second guest, on trial beside the one that serves."""
    waits: tuple[WaitStatus, ...] = ()
    """What `why` says, piece by piece, the worst first."""
    hypervisor: str = ""
    """Of the guest that runs, else of the one that is wanted; empty: neither is known."""


@dataclass(frozen=True, slots=True)
class ProbeStatus:
    """One round of a VM's checks, by people's clock."""

    wall: float
    result: ProbeResult
    seconds: float
    generation: GenerationNumber


@dataclass(frozen=True, slots=True)
class GroupStatus:
    name: GroupName
    state: RolloutState
    members: int
    unavailable: int
    max_unavailable: int
    pending: int
    """Members that have not reached their desired generation."""
    hold: str = ""
    moving: tuple[VMName, ...] = ()
    """On the way to their desired generation, or back from it."""
    line: tuple[VMName, ...] = ()
    """Those who come next, the next one first, if all goes well."""
    held: tuple[VMName, ...] = ()
    """Those who stay until a person does something."""
    deadline_wall: float | None = None
    """By when the next member must be healthy; None: the group has no `progressDeadline`, or rests."""


@dataclass(frozen=True, slots=True)
class SourceStatus:
    name: str
    url: str
    """Without credentials."""
    last_success_wall: float | None
    failures: int
    """Failed looks in a row."""
    error: str = ""
    error_kind: str = ""
    """What kind of error, as the table of errors in docs/operations/errors.md has them."""


@dataclass(frozen=True, slots=True)
class HostStatus:
    revision: RevisionStatus
    vms: tuple[VMStatus, ...]
    groups: tuple[GroupStatus, ...]
    suspended: bool
    sources: tuple[SourceStatus, ...] = ()
    waits: tuple[str, ...] = ()
    alerts: tuple[str, ...] = ()
    """What a person should look at now: `ledger: disk full ...`."""
