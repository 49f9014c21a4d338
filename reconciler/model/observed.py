"""What a pass observed; it may be stale by the time it is used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from reconciler.model.actions import ACTION_OF, Disturbs, OperationKind, OutcomeKind
from reconciler.model.guest_reports import NOTHING_ANNOUNCED, Announced
from reconciler.model.health import NEVER_ASKED, ProbeCounts
from reconciler.model.image import BuiltImage, StoredImage
from reconciler.model.image_tags import Tag
from reconciler.model.machine import Accel, HostPort, Route, RouteTarget, Slot
from reconciler.model.names import (
    GenerationNumber,
    InstanceId,
    KernelKey,
    LayerKey,
    Revision,
    VMName,
)
from reconciler.model.record import Generation


@dataclass(frozen=True, slots=True)
class Exit:
    """How a VMM process ended. `status` and `signal` both None: it was not our child, so that is unknown."""

    status: int | None = None
    signal: int | None = None
    panicked: bool = False
    """The console's last lines show a kernel panic."""
    console: tuple[str, ...] = ()
    """The last console lines, at most 20, cleaned of control characters."""
    reported: str = ""
    """Why the guest failed, by its own report on the console: `reconciler-failed: WHY`."""
    host_fault: str = ""
    """What the host lacked, by the VMM's message; its end then says nothing about the guest."""
    damaged: bool = False
    """The console's last lines say that a block of a layer is not what was built."""

    def __str__(self) -> str:
        if self.reported:
            return f"it reported failure: {self.reported}"
        if self.panicked:
            return "kernel panic"
        if self.host_fault:
            return f"the host lacks what its VMM needs: {self.host_fault}"
        if self.signal is not None:
            return f"killed by signal {self.signal}"
        return "exit status unknown" if self.status is None else f"exit status {self.status}"


@dataclass(frozen=True, slots=True)
class Process:
    """A VMM process, running or just ended, as its supervisor sees it."""

    vm: VMName
    instance: InstanceId
    generation: GenerationNumber
    pid: int
    start_time: int
    """Field 22 of /proc/PID/stat; together with the pid it identifies a process."""
    started_boot: float
    """CLOCK_BOOTTIME seconds when it was started."""
    exit: Exit | None = None
    slot: Slot = 1
    hypervisor: str = field(kw_only=True)
    """The name of its driver."""

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.exit is None


@dataclass(frozen=True, slots=True)
class Guest:
    """A running or just ended instance of a VM."""

    process: Process
    health: ProbeCounts = NEVER_ASKED
    trial: ProbeCounts = NEVER_ASKED
    """Results of changed checks on trial."""
    said: Announced = NOTHING_ANNOUNCED
    announces: bool = False
    """Whether what it boots announces that it is up; if not, silence means nothing."""
    passed: bool = False
    """Whether it was healthy once, perhaps in the time of an earlier daemon."""

    @property
    def alive(self) -> bool:
        """Whether its process has not ended."""
        return self.process.exit is None

    @property
    def instance(self) -> InstanceId:
        """Of its process."""
        return self.process.instance

    @property
    def generation(self) -> GenerationNumber:
        """Of its process."""
        return self.process.generation


@dataclass(frozen=True, slots=True)
class Conflict:
    """Another process holds a VM's lock or socket: it is reported, and never killed."""

    vm: VMName
    what: str


@dataclass(frozen=True, slots=True)
class Operation:
    """A slow action in flight for one VM."""

    vm: VMName
    kind: OperationKind
    since_boot: float

    @property
    def disturbs(self) -> Disturbs:
        """Which guest does not serve meanwhile."""
        return ACTION_OF[self.kind].disturbs


@dataclass(frozen=True, slots=True)
class VolumesSaved:
    """A snapshot of volumes was taken."""

    method: str
    """How it was copied: reflink or copy."""


@dataclass(frozen=True, slots=True)
class PortsOpened:
    """A guest's own ports were opened."""

    routes: tuple[Route, ...]
    """Each port of the manifest, with the guest's own port behind it."""


@dataclass(frozen=True, slots=True)
class Collected:
    """Images were collected."""

    freed_bytes: int


@dataclass(frozen=True, slots=True)
class TagFound:
    """A registry said what a tag means."""

    tag: Tag
    digest: str
    revision: Revision
    """The desired one when the lookup began."""
    asked: bool
    """A person had asked for it then."""


ActionResult = BuiltImage | VolumesSaved | PortsOpened | Collected | TagFound | None
"""What a slow action returned; None: only that it is done."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a slow action ended; exactly one pass sees it.

    `subject` is a VM's name, a layer's or kernel bundle's key, or a tag's. `error` is None on success.
    `transient` says that trying again may help.
    """

    kind: OutcomeKind
    subject: str
    error: str | None = None
    error_kind: str = ""
    transient: bool = True
    seconds: float = 0.0
    result: ActionResult = None
    """None also for one that failed."""


KvmState = Literal["proven", "broken", "forbidden", "absent", "unasked"]
"""State of /dev/kvm: a guest ran on it; none could; no permission; missing; not probed, as the config decides."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a probe found of a VMM on this host."""

    program: str
    """As the config names it; empty: each guest brings its own."""
    package: str = ""
    """Debian's package that has it; empty: none has."""
    path: str = ""
    """Where it was found; empty: not found."""
    version: str = ""
    """As the program reports it; empty: unknown."""
    accel: Accel = "tcg"
    """What its guests run on."""
    kvm: KvmState = "unasked"


@dataclass(frozen=True, slots=True)
class HostFacts:
    """Resources of the host at this moment."""

    memory_available_mib: int
    disk_free_mib: int
    tsc_khz: int | None
    vmms: Mapping[str, Fingerprint] = field(default_factory=dict)
    """By hypervisor."""
    listening: frozenset[HostPort] = frozenset()
    """TCP ports on which any process of this host listens, with their IPv4 addresses."""
    refused: Mapping[HostPort, str] = field(default_factory=dict)
    """Requested ports that cannot be bound, each with the reason."""

    def accel_of(self, hypervisor: str) -> Accel:
        """What its guests run on; an unprobed VMM counts as emulated."""
        found = self.vmms.get(hypervisor)
        return found.accel if found is not None else "tcg"


@dataclass(frozen=True, slots=True)
class Link:
    """An interface of the host."""

    kind: Literal["bridge", "tap", "other"]
    owner: VMName | None = None
    """The VM whose tap it is, by our mark on it; None: it is not ours."""
    bridge: str = ""
    """The bridge that it is part of."""
    up: bool = True
    addresses: tuple[str, ...] = ()
    """Of a bridge: the host's IPv4 addresses on it, each with its prefix, as 10.20.0.1/24."""


@dataclass(frozen=True, slots=True)
class Links:
    """The host's interfaces, by their names."""

    found: Mapping[str, Link] = field(default_factory=dict)
    hindrance: str = ""
    """Why no tap can be made on this host; empty if one can."""


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything that one pass observed."""

    guests: Mapping[VMName, tuple[Guest, ...]]
    """Serving and candidate guests; alive ones and those whose end is not yet in the record."""
    layers: frozenset[LayerKey]
    """Built, synced and verified since this boot or the last time they were asked about."""
    kernels: frozenset[KernelKey]
    host: HostFacts
    parts: Mapping[LayerKey, tuple[LayerKey, ...]] = field(default_factory=dict)
    """Of a layer that is composed of several images, which may be missing: their keys, bottom first.
    Any other is its own image."""
    stored: Mapping[str, StoredImage] = field(default_factory=dict)
    """What is in the store by key, also what is broken; the same object while nothing changed."""
    hash_trees: Mapping[LayerKey, str] = field(default_factory=dict)
    """Of a layer whose image ends in a tree of hashes: its blocks and the tree's root, `BLOCKS:ROOT`."""
    announcing: frozenset[KernelKey] = frozenset()
    """Kernel bundles whose initrd makes a guest announce that it is up."""
    busy: Mapping[VMName, Operation] = field(default_factory=dict)
    building: frozenset[str] = frozenset()
    ending: frozenset[str] = frozenset()
    """Builds that were cancelled and have not ended yet."""
    looking: frozenset[str] = frozenset()
    """Tags that are being looked up, by key."""
    outcomes: tuple[Outcome, ...] = ()
    conflicts: Mapping[VMName, Conflict] = field(default_factory=dict)
    found: Mapping[InstanceId, Generation] = field(default_factory=dict)
    """Generations read back from disk, for living guests that the record does not know."""
    occupied: frozenset[VMName] = frozenset()
    """New names of VMs that cannot be taken, because a folder of that name exists."""
    links: Links = Links()
    plugged: Mapping[VMName, float] = field(default_factory=dict)
    """When each VM's taps were last plugged into their bridges again; boot-clock seconds."""
    front: Mapping[VMName, RouteTarget] = field(default_factory=dict)
    """Where the proxy sends connections, by VM; empty if no proxy runs."""
    proxy_error: str = ""
    """Why the last query of the proxy failed; routing is then unknown. Empty: it succeeded."""
    blind: bool = False
    """Whether there was no observation for a while: the daemon is new, or was stopped."""

    def with_parts(self, keys: Iterable[str]) -> frozenset[str]:
        """These images and the parts of which they are composed."""
        named = frozenset(keys)
        return named.union(*(self.parts[key] for key in self.parts.keys() & named))
