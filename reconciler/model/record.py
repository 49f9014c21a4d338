"""The record: what must be stored because it cannot be observed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from reconciler.model.check_trial import BlockedChecks, CheckChange, CheckTrial
from reconciler.model.desired import VMSpec
from reconciler.model.guest_reports import NOTHING_ANNOUNCED, Announced, DamageReport
from reconciler.model.image_tags import TagMeaning, by_key
from reconciler.model.lifecycle import (
    Backoff,
    Finished,
    Quarantine,
    Restarted,
    RollbackState,
    Unready,
    WantedDigest,
)
from reconciler.model.machine import Route
from reconciler.model.names import (
    Digest,
    GenerationNumber,
    GroupName,
    InstanceId,
    Revision,
    VMName,
)
from reconciler.model.revision_result import RevisionRecord
from reconciler.model.source_state import Rejection, Unreachable
from reconciler.now import Deadline

Verdict = Literal["trial", "committed", "condemned"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why a generation was condemned; written for a person who reads it at 3 a.m."""

    kind: Literal[
        "exited", "reported", "panicked", "volumes", "probe-failed", "startup-timeout", "ended"
    ]
    probe: str = ""
    exit: str = ""
    console: tuple[str, ...] = ()


OF_CHECKS = frozenset(("probe-failed", "startup-timeout"))
"""Kinds of evidence from checks: with other checks the same digest may be good."""


@dataclass(frozen=True, slots=True)
class Generation:
    """A VM's numbered, immutable, bootable result, with its verdict.

    `spec` is what it was made of; only its in-place fields may be replaced later.
    """

    vm: VMName
    number: GenerationNumber
    digest: Digest
    revision: Revision
    spec: VMSpec
    created_wall: float
    verdict: Verdict = "trial"
    verdict_wall: float = 0.0
    reason: str = ""
    evidence: Evidence | None = None
    checks: CheckChange | None = None
    """The newest change of its checks without a restart."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """A condemned digest of one VM; it is not started again automatically."""

    digest: Digest
    generation: GenerationNumber
    reason: str
    attempts: int
    first_wall: float
    last_wall: float
    revision: Revision | None = None
    """The revision of the condemned generation; None: recorded by an older version."""
    key: Digest = Digest("")
    """The rollout key, if only checks failed: changed checks then lift the block."""


StartPurpose = Literal["trial", "rollback", "restart"]


@dataclass(frozen=True, slots=True)
class Start:
    """The newest start of a guest, written before the process is spawned."""

    instance: InstanceId
    generation: GenerationNumber
    purpose: StartPurpose
    deadline: Deadline
    """By when it must pass its checks."""
    routes: tuple[Route, ...] | None = None
    """Its own ports, behind the proxy; None: it binds the manifest's ports itself, or has none yet."""
    announces: bool = False
    """Whether what it boots announces on the console that it is up."""
    said: Announced = NOTHING_ANNOUNCED
    """Its announcements; the console may have lost them when a later daemon reads it."""
    passed: bool = False
    """Whether it has been healthy once."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A second guest beside the one that serves, on trial until it may take over."""

    instance: InstanceId
    generation: GenerationNumber
    deadline: Deadline
    """Until when it must have passed its checks."""
    routes: tuple[Route, ...] | None = None
    """Each port of its manifest with its own port behind it; None: not opened yet."""
    announces: bool = False
    said: Announced = NOTHING_ANNOUNCED
    passed: bool = False


StopCause = Literal[
    "update",
    "rollback",
    "unhealthy",
    "condemned",
    "removed",
    "requested",
    "overtaken",
    "handed-over",
]


@dataclass(frozen=True, slots=True)
class Stop:
    """A stop by the daemon, written before the guest is asked, so that its end is not taken for a crash."""

    instance: InstanceId
    cause: StopCause


@dataclass(frozen=True, slots=True)
class Pin:
    """A person's `rollback`: this generation, until a new digest or `resume`."""

    generation: GenerationNumber
    digest: Digest
    """The desired digest that it overrides."""
    since_wall: float


SnapshotState = Literal["taking", "taken", "restoring", "restored"]


@dataclass(frozen=True, slots=True)
class VolumeSnapshot:
    """The volumes as they were before generation `before` first wrote to them."""

    before: GenerationNumber
    state: SnapshotState
    method: str = ""
    """How it was made: reflink, or copy."""


@dataclass(frozen=True, slots=True)
class Suspension:
    """A VM, group or host that a person suspended."""

    since_wall: float
    reason: str = ""
    until_wall: float | None = None
    """When it ends automatically; None: a person must end it."""


@dataclass(frozen=True, slots=True)
class VMRecord:
    """The record of one VM."""

    name: VMName
    group: GroupName
    generations: tuple[Generation, ...] = ()
    """Ascending by number; old ones are dropped, the last good one never."""
    next_number: GenerationNumber = GenerationNumber(1)
    blocked: tuple[Blocked, ...] = ()
    blocked_checks: tuple[BlockedChecks, ...] = ()
    check_trial: CheckTrial | None = None
    start: Start | None = None
    """Of the guest that serves, or is to."""
    candidate: Candidate | None = None
    pending_transfer: InstanceId | None = None
    """The guest whose port change has begun and is not known to be done: its own ports, or the VM's."""
    stop: Stop | None = None
    rollback: RollbackState | None = None
    quarantine: Quarantine | None = None
    backoff: Backoff | None = None
    snapshot: VolumeSnapshot | None = None
    pin: Pin | None = None
    suspended: Suspension | None = None
    restart: InstanceId | None = None
    """The instance whose replacement a person requested."""
    moving: VMName | None = None
    """The new name, while its folder is being moved to it."""
    formerly: VMName | None = None
    """The name that it had before its last move."""
    removing: bool = False
    """Whether its removal was accepted; the record stays until it is complete."""
    restarts: tuple[tuple[str, int], ...] = ()
    """Number of restarts by reason, over the VM's life."""
    restarted: Restarted | None = None
    finished: Finished | None = None
    wanted: WantedDigest | None = None
    unready: Unready | None = None
    damage: DamageReport | None = None

    @property
    def last_good(self) -> Generation | None:
        """The newest committed generation."""
        for generation in reversed(self.generations):
            if generation.verdict == "committed":
                return generation
        return None

    def generation(self, number: GenerationNumber) -> Generation | None:
        """The generation with this number, if it is kept."""
        for generation in reversed(self.generations):
            if generation.number == number:
                return generation
        return None

    def proven(self, digest: Digest) -> Generation | None:
        """The newest committed generation of this digest that is kept."""
        for generation in reversed(self.generations):
            if generation.verdict == "committed" and generation.digest == digest:
                return generation
        return None

    def block_of(self, spec: VMSpec) -> Blocked | None:
        """The block that applies to this spec; None if it may be started."""
        return next((b for b in self.blocked if self._repeats(spec, b)), None)

    def _repeats(self, spec: VMSpec, block: Blocked) -> bool:
        key, failed = block.key, self.generation(block.generation)
        if (
            not key and failed is not None and failed.evidence is not None
        ):  # written by an older version
            key = failed.spec.rollout_key if failed.evidence.kind in OF_CHECKS else key
        return block.digest == spec.digest and key in ("", spec.rollout_key)

    def ended_well(self, spec: VMSpec, boot_id: str) -> bool:
        """Whether a proven guest of this spec ended without failure, and its restart policy allows that."""
        finished, good = self.finished, self.last_good
        if finished is None or good is None or self.start is not None:
            return False
        if (good.digest, good.number) != (spec.digest, finished.generation):
            return False
        return spec.restart.policy == "on-failure" and finished.boot_id == boot_id

    def checks_blocked(self, key: Digest) -> BlockedChecks | None:
        """The trial of these checks that failed, by their rollout key."""
        return next((b for b in self.blocked_checks if b.key == key), None)

    def with_generation(self, changed: Generation) -> VMRecord:
        """The same record with one generation replaced, or added as the newest."""
        kept = tuple(g for g in self.generations if g.number != changed.number)
        return replace(
            self,
            generations=tuple(sorted((*kept, changed), key=lambda g: g.number)),
            next_number=GenerationNumber(max(self.next_number, changed.number + 1)),
        )


HoldCause = Literal["failure", "progress", "person"]


@dataclass(frozen=True, slots=True)
class Hold:
    """A group that stopped after a failure.

    It holds the members in `held` at the digests they were about to take, as long as the failed
    VM still wants the digest that failed.
    """

    vm: VMName
    digest: Digest
    reason: str
    since_wall: float
    held: tuple[tuple[VMName, Digest], ...]
    back: tuple[tuple[VMName, GenerationNumber], ...] = ()
    """Members that took the change already, with the generation to which they go back."""
    cause: HoldCause = "failure"
    """A member failed, no member moved in time, or a person aborted the rollout."""
    revision: Revision | None = None
    """The revision that is held; None: recorded by an older version."""
    key: Digest = Digest("")
    """The failed VM's rollout key, if only checks failed: changed checks then lift the hold too."""
    back_checks: tuple[VMName, ...] = ()
    """Members that took changed checks already and go back to the former ones."""

    @property
    def words(self) -> str:
        """Why the group is held, for display."""
        return f"{self.vm} failed: {self.reason}" if self.cause == "failure" else self.reason


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """The record of one group."""

    name: GroupName
    hold: Hold | None = None
    suspended: Suspension | None = None
    approved: tuple[tuple[VMName, Digest], ...] = ()
    """Digests that a person promoted; others wait again."""
    progress: Deadline | None = None
    """By when the next member must be healthy, during a rollout."""


MOST_PROBLEMS = 100
"""Problems of one revision that are stored and shown; the others are counted."""


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """The record of the source."""

    revision: Revision | None = None
    """The newest revision that was valid; it is loaded again after a restart."""
    first_seen_wall: float = 0.0
    applied: Revision | None = None
    """The newest revision that every VM reached."""
    rejection: Rejection | None = None
    confirmed: Revision | None = None
    """The revision of which a person confirmed all removals."""
    rewritten: Revision | None = None
    """A rewritten revision that a person allowed; kept until it is desired."""
    unreachable: Unreachable | None = None
    revisions: tuple[RevisionRecord, ...] = ()
    """The newest valid revisions with their results, newest last; a bounded number."""


@dataclass(frozen=True, slots=True)
class BuildTrouble:
    """A build or an operation that failed, and when it is tried again."""

    key: str
    """A `TroubleKey`, as it is stored."""
    title: str
    attempts: int
    error: str
    definitive: bool
    """Whether the input is bad: only `retry` or another input helps."""
    retry: Deadline


@dataclass(frozen=True, slots=True)
class StoreRecord:
    """The record of the image store."""

    collect_wall: float | None = None
    """When a person requested that everything goes that nothing names; None: that is done."""
    tags: tuple[TagMeaning, ...] = ()
    """What tags of images meant, by key; of those that are desired, or that a kept generation names."""

    def with_meaning(self, meaning: TagMeaning) -> StoreRecord:
        """The record in which a tag means this."""
        changed = by_key((*self.tags, meaning))
        return replace(self, tags=tuple(changed[key] for key in sorted(changed)))


@dataclass(frozen=True, slots=True)
class Intent:
    """A side effect that is about to happen. It ends as done, failed or interrupted."""

    id: str
    kind: str
    subject: str
    begun_wall: float


@dataclass(frozen=True, slots=True)
class Record:
    """Everything that the ledger stores but events and intents."""

    vms: Mapping[VMName, VMRecord] = field(default_factory=dict)
    groups: Mapping[GroupName, GroupRecord] = field(default_factory=dict)
    builds: Mapping[str, BuildTrouble] = field(default_factory=dict)
    """By `TroubleKey`, as it is stored."""
    source: SourceRecord = SourceRecord()
    suspended: Suspension | None = None
    """The whole host."""
    store: StoreRecord = StoreRecord()
