"""What was found in this pass; dated, and perhaps stale by the time it is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from reconciler.model.actions import ACTION_OF, Disturbs, OperationKind, OutcomeKind
from reconciler.model.guest_reports import NOTHING_ANNOUNCED, Announced
from reconciler.model.health import NEVER_ASKED, ProbeCounts
from reconciler.model.image import BuiltImage
from reconciler.model.machine import Accel, HostPort, Route, RouteTarget, Slot
from reconciler.model.names import GenerationNumber, InstanceId, KernelKey, LayerKey, VMName
from reconciler.model.record import Generation


@dataclass(frozen=True, slots=True)
class Exit:
    """How a VMM process ended. Both None: it was not our child, so nobody could say."""

    status: int | None = None
    signal: int | None = None
    panicked: bool = False
    """The console's last lines show a kernel panic."""
    console: tuple[str, ...] = ()
    """The last console lines, at most 20, cleaned of control characters."""
    reported: str = ""
    """Why the guest failed, by its own words on the console: `reconciler-failed: WHY`."""
    host_fault: str = ""
    """What the host lacked, by the VMM's own words: then its end says nothing of the guest."""

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
    """One VMM process of ours, alive or just ended, as its supervisor sees it."""

    vm: VMName
    instance: InstanceId
    generation: GenerationNumber
    pid: int
    start_time: int
    """Field 22 of /proc/PID/stat: with the pid it names a process for good."""
    started_boot: float
    """CLOCK_BOOTTIME seconds when it was started."""
    exit: Exit | None = None
    slot: Slot = 1
    hypervisor: str = field(kw_only=True)
    """Whose driver knows how to talk to it."""

    @property
    def alive(self) -> bool:
        return self.exit is None


@dataclass(frozen=True, slots=True)
class Guest:
    """A running or just ended instance of a VM."""

    process: Process
    health: ProbeCounts = NEVER_ASKED
    trial: ProbeCounts = NEVER_ASKED
    """How it answers changed checks that are on trial."""
    said: Announced = NOTHING_ANNOUNCED
    announces: bool = False
    """What it boots says on the console when it is up; else nothing follows from its silence."""
    passed: bool = False
    """It is known to have been healthy once, perhaps to an earlier daemon."""

    @property
    def alive(self) -> bool:
        return self.process.exit is None

    @property
    def instance(self) -> InstanceId:
        return self.process.instance

    @property
    def generation(self) -> GenerationNumber:
        return self.process.generation


@dataclass(frozen=True, slots=True)
class Conflict:
    """Somebody else holds what is ours: reported, never killed."""

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
    method: str
    """How the copy was made: reflink, or copy."""


@dataclass(frozen=True, slots=True)
class PortsOpened:
    routes: tuple[Route, ...]
    """Each port of the manifest, and the one of the guest's own that leads to it."""


@dataclass(frozen=True, slots=True)
class Collected:
    freed_bytes: int


ActionResult = BuiltImage | VolumesSaved | PortsOpened | Collected | None
"""What a slow action made; None: there is nothing to say but that it is done."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a slow action ended; seen by exactly one pass.

    `subject` is a VM's name, or a layer's or kernel bundle's key. `error` is None on success.
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
"""Of /dev/kvm: a guest ran on it; none did; it may not be opened; it is not there; the config decides."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What this host has of a VMM."""

    program: str
    """As the config names it; empty: each guest brings its own."""
    package: str = ""
    """Debian's package that has it; empty: none has."""
    path: str = ""
    """Where it was found; empty: nowhere."""
    version: str = ""
    """By its own words; empty: it did not say."""
    accel: Accel = "tcg"
    """What its guests run on."""
    kvm: KvmState = "unasked"


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What the host can give at this moment."""

    memory_available_mib: int
    disk_free_mib: int
    tsc_khz: int | None
    vmms: Mapping[str, Fingerprint] = field(default_factory=dict)
    """By hypervisor."""
    listening: frozenset[HostPort] = frozenset()
    """TCP ports on which anybody on this host listens, each with its IPv4 address."""
    refused: Mapping[HostPort, str] = field(default_factory=dict)
    """Of the ports that were asked for: those that cannot be bound, each with the reason."""

    def accel_of(self, hypervisor: str) -> Accel:
        """What its guests run on; one that nobody looked for emulates."""
        found = self.vmms.get(hypervisor)
        return found.accel if found is not None else "tcg"


@dataclass(frozen=True, slots=True)
class Link:
    """An interface of the host."""

    kind: Literal["bridge", "tap", "other"]
    owner: VMName | None = None
    """The VM whose tap it is, by the mark that we left on it; None: it is not ours."""
    bridge: str = ""
    """Into which it is plugged."""
    up: bool = True
    addresses: tuple[str, ...] = ()
    """Of a bridge: the host's IPv4 addresses on it, each with its prefix, as 10.20.0.1/24."""


@dataclass(frozen=True, slots=True)
class Links:
    """The host's interfaces, by their names."""

    found: Mapping[str, Link] = field(default_factory=dict)
    hindrance: str = ""
    """Why no tap can be made here; empty where one can."""


@dataclass(frozen=True, slots=True)
class Observed:
    guests: Mapping[VMName, tuple[Guest, ...]]
    """Serving and candidate guests; alive ones and those whose end is not yet in the record."""
    layers: frozenset[LayerKey]
    """Built, synced and verified since this boot or the last time they were asked about."""
    kernels: frozenset[KernelKey]
    host: HostFacts
    announcing: frozenset[KernelKey] = frozenset()
    """Kernel bundles whose initrd sees to it that a guest says when it is up."""
    busy: Mapping[VMName, Operation] = field(default_factory=dict)
    building: frozenset[str] = frozenset()
    ending: frozenset[str] = frozenset()
    """Those of them that were cancelled and have not ended yet."""
    outcomes: tuple[Outcome, ...] = ()
    conflicts: Mapping[VMName, Conflict] = field(default_factory=dict)
    found: Mapping[InstanceId, Generation] = field(default_factory=dict)
    """Generations read back from disk, for living guests that the record does not know."""
    occupied: frozenset[VMName] = frozenset()
    """Names that a VM is about to take, and under which something lies already."""
    links: Links = Links()
    plugged: Mapping[VMName, float] = field(default_factory=dict)
    """By VM when its taps were last plugged into their bridges again, by the boot clock."""
    front: Mapping[VMName, RouteTarget] = field(default_factory=dict)
    """Where the front leads the ports of which VM; empty where none runs."""
    proxy_error: str = ""
    """Why the front cannot be asked, so that nobody knows where it leads; empty: it was asked."""
    blind: bool = False
    """Nobody looked for a while before this: the daemon is new, or stood still."""
