"""What the engine asks of the world. Adapters satisfy these by shape; the daemon hands them over.

Every call has a deadline of its own and raises only the errors named here. Methods that are not
`async` never block: they answer from memory.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from reconciler.clock import Clock
from reconciler.engine.metering import Meter
from reconciler.model.change import Change
from reconciler.model.desired import ANY, DesiredState, Fetched, Lineage
from reconciler.model.event import Event
from reconciler.model.guest_reports import Said
from reconciler.model.health import ProbeCounts, ProbePlan, Round
from reconciler.model.image import BuiltImage, KernelSpec, LayerSpec
from reconciler.model.machine import (
    GuestEndpoint,
    HostPort,
    Launch,
    Machine,
    Route,
    RouteTarget,
    RoutingTable,
    Tap,
)
from reconciler.model.names import (
    GenerationNumber,
    InstanceId,
    KernelKey,
    LayerKey,
    Revision,
    VMName,
)
from reconciler.model.observed import Conflict, HostFacts, Links, Process
from reconciler.model.record import Generation, Intent, Record
from reconciler.model.source_state import CommitSummary
from reconciler.model.status import SourceStatus
from reconciler.spans import UNTRACED, Tracer

Wake = Callable[[], None]
"""Tells the loop that something may have changed. Callable from the loop's thread only."""


class Source(Protocol):
    """A repository of manifests."""

    async def fetch(self, lineage: Lineage = ANY) -> Fetched:
        """Look now.

        Raises SourceError (nothing could be read), RevisionRefused (what was fetched does not
        continue `lineage`, or lacks signatures) or ManifestErrors (read, and bad).
        """
        ...

    @property
    def repository(self) -> Path:
        """The bare mirror, from which layers are built."""
        ...

    async def load(self, revision: Revision) -> DesiredState:
        """A revision that was fetched before. Raises SourceError or ManifestErrors."""
        ...

    async def preview(self, ref: str) -> DesiredState:
        """What a branch, tag or commit of the mirror says, without adopting it."""
        ...

    async def commits(self, tips: Sequence[str], most: int) -> tuple[CommitSummary, ...]:
        """The newest commits that lead to these, children first; unknown ones are left out.

        From the mirror, for people. Raises SourceError.
        """
        ...

    def next_delay(self, failures: int) -> float:
        """Seconds until the next look, after so many failed ones in a row; jitter included."""
        ...

    def longest_look(self) -> float:
        """Seconds after which a look has ended, well or not."""
        ...

    def status(self) -> SourceStatus: ...

    def watch(self, callback: Wake) -> None:
        """Call back when a push was noticed; a hint only, the periodic look decides."""
        ...


class Images(Protocol):
    """The store of layers and kernel bundles."""

    def layers(self) -> frozenset[LayerKey]:
        """Layers that are built, synced and verified."""
        ...

    def kernels(self) -> frozenset[KernelKey]:
        """Kernel bundles, and runners that are booted in place of one."""
        ...

    def announcing(self) -> frozenset[KernelKey]:
        """Kernel bundles whose initrd sees to it that a guest says when it is up."""
        ...

    async def build_layer(self, spec: LayerSpec, repository: Path) -> BuiltImage:
        """Make a layer, or verify that it is there. Raises BuildFailed or BuildUnavailable.

        Cancelling it ends the builder's whole process group.
        """
        ...

    async def build_kernel(self, spec: KernelSpec, repository: Path) -> BuiltImage: ...

    async def look(self, keys: frozenset[str] | None = None) -> frozenset[str]:
        """Look whether these images, or all, are still there; returns those newly found missing.

        Cheap: no content is read.
        """
        ...

    async def collect(self, pinned: frozenset[str]) -> int:
        """Remove what no pin names; returns the bytes freed. Raises ImageError."""
        ...


class Driver(Protocol):
    """A VMM: how a machine becomes a process, and how a guest is asked to stop."""

    def launch(self, machine: Machine) -> Launch: ...

    async def press_power_button(self, folder: Path, pid: int, deadline: float) -> None:
        """Ask the guest to shut down; answers when it was told.

        `pid` is its VMM: whoever else took its place meanwhile is not told. Raises DriverError.
        """
        ...

    async def open_ports(
        self, endpoint: GuestEndpoint, before_giving_up: Callable[[], Awaitable[None]]
    ) -> tuple[Route, ...]:
        """Let free loopback ports lead to this guest, one for each forward, and none of the forwards' own.

        `before_giving_up` is awaited before the first of the forwards' own is given up, if it has any;
        what it raises leaves them as they are. Raises DriverError. May be done again, however far it came.
        """
        ...

    async def volumes(
        self, machine: Machine, sizes: Mapping[str, int], kept: frozenset[str] = frozenset()
    ) -> None:
        """Create the volumes that are missing and format them, once; let those grow that are too small.

        None is ever made smaller, and none of `kept`, by their paths, is begun again. Raises DriverError,
        of kind `growth` where one cannot grow.
        """
        ...

    async def can_grow(self, machine: Machine, sizes: Mapping[str, int]) -> None:
        """See, while a guest may have them, whether the volumes could have these sizes.

        Raises DriverError, of kind `growth` where one cannot.
        """
        ...


class PortProxy(Protocol):
    """Holds ports of the host for guests that hand over to each other, and outlives both and the daemon."""

    async def look(self) -> RoutingTable:
        """Where it leads what. Never raises, and never starts it."""
        ...

    async def reach(self) -> None:
        """See that it runs and answers. It is started if it does not run. Raises FrontError."""
        ...

    async def lead(self, vm: VMName, target: RouteTarget | None) -> None:
        """Let new connections to these ports come to this guest, all at once; None: let go of them.

        Raises FrontError, and leads as before then. It is started if it does not run.
        """
        ...

    async def drained(self, vm: VMName, instance: InstanceId | None, most: float) -> None:
        """Return when no connection to this guest is under way, at the latest after so many seconds."""
        ...


class Supervisor(Protocol):
    """Keeps VMM processes. They outlive it."""

    async def adopt(self) -> None:
        """Find the guests that were started earlier, alive or dead. Call once, before anything else."""
        ...

    def processes(self) -> tuple[Process, ...]: ...

    def conflicts(self) -> tuple[Conflict, ...]: ...

    def said(self) -> Mapping[InstanceId, Said]:
        """What living guests announced on their consoles, as far as they can still be read."""
        ...

    async def start(self, machine: Machine, launch: Launch) -> Process:
        """Start a VMM that holds the VM's lock. Raises GuestConflict or SupervisorError."""
        ...

    async def signal(self, instance: InstanceId, number: int) -> None:
        """Send a signal to exactly this process; a no-op when it is gone."""
        ...

    async def wait_gone(self, instance: InstanceId, timeout: float) -> bool:
        """Whether the process ended within `timeout` seconds."""
        ...

    async def forget(self, instance: InstanceId) -> None:
        """Drop an ended guest, whose end is now in the record."""
        ...


ProbePlans = Mapping[InstanceId, ProbePlan]


class Prober(Protocol):
    """Asks guests how they are, for life."""

    def watch(self, plans: ProbePlans, trials: ProbePlans | None = None) -> None:
        """From now on ask exactly these, and beside them changed checks. Cheap when nothing changed.

        Answers are counted by guest and question, in whichever of the two it stands.
        """
        ...

    def health(self) -> Mapping[InstanceId, ProbeCounts]: ...

    def trials(self) -> Mapping[InstanceId, ProbeCounts]:
        """How guests answer changed checks."""
        ...

    def rounds(self, vm: VMName) -> tuple[Round, ...]:
        """The newest answers of a VM's checks, oldest first; at most some hundred."""
        ...


class Generations(Protocol):
    """The folders of generations: runners in the form that microvm.nix knows."""

    async def create(
        self, machine: Machine, launch: Launch, generation: Generation, *, current: bool = False
    ) -> None:
        """Write `vms/NAME/generations/N/` whole or not at all; if it is to serve now, point `current` at it."""
        ...

    async def set_booted(self, vm: VMName, number: GenerationNumber) -> None:
        """It runs and serves: point `current` and `booted` at it."""
        ...

    async def drop(self, vm: VMName, numbers: Sequence[GenerationNumber]) -> None: ...

    async def remove(self, vm: VMName) -> None:
        """Remove a VM's folder but for its volumes, which are kept."""
        ...

    async def move(self, old: VMName, new: VMName) -> None:
        """Give a VM's folder another name, durably, and whole or not at all.

        A no-op where it was done before. Raises DriverError, of kind `occupied` if something lies
        under the new name.
        """
        ...

    async def occupied(self, names: Sequence[VMName]) -> frozenset[VMName]:
        """Those of these names under which something lies."""
        ...

    def folder(self, vm: VMName) -> Path: ...

    async def read(self, vm: VMName, number: GenerationNumber) -> Generation | None:
        """A generation as its folder describes it; None when it does not, or not readably."""
        ...


class Volumes(Protocol):
    """The writable disks of VMs that do not run, and their snapshots."""

    async def snapshot(self, pairs: Sequence[tuple[str, str]]) -> str:
        """Copy each volume that exists to its snapshot, whole or not at all; returns the method.

        Raises DriverError.
        """
        ...

    async def restore(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Replace each volume by its snapshot, whole or not at all. Raises DriverError."""
        ...

    async def drop(self, paths: Sequence[str]) -> None: ...


class Taps(Protocol):
    """Interfaces of the host that lead to guests."""

    async def look(self) -> Links:
        """What is there now. Never raises: what went wrong is `hindrance`, and nothing was found."""
        ...

    async def make(self, vm: VMName, taps: Sequence[Tap]) -> None:
        """See that these are there, ours, plugged into their bridges and up.

        A no-op where they are; a stranger's interface is left as it is. Raises DriverError.
        """
        ...

    async def plug(self, vm: VMName, taps: Sequence[Tap]) -> None:
        """Put taps that are there back into their bridges. Raises DriverError."""
        ...

    async def drop(self, names: Sequence[str]) -> None:
        """Remove those of them that are ours. Raises DriverError."""
        ...


class Host(Protocol):
    async def facts(self, wanted: frozenset[HostPort] = frozenset()) -> HostFacts:
        """What the host has now, and which of the wanted ports cannot be bound.

        Raises DriverError if the state directory or /proc cannot be read.
        """
        ...


class Ledger(Protocol):
    """What must be remembered, durably; one writer."""

    def record(self) -> Record:
        """The present record, from memory."""
        ...

    async def write(self, changes: Iterable[Change]) -> Record:
        """Apply all or nothing; durable when it returns. Raises LedgerUnwritable."""
        ...

    async def events(self, after: int, limit: int) -> list[Event]: ...

    async def latest_events(self, limit: int) -> list[Event]:
        """The newest, oldest first."""
        ...

    async def intents_open(self) -> list[Intent]:
        """Side effects that were begun and have no end, oldest first."""
        ...

    def subscribe(self, callback: Callable[[Event], None]) -> Callable[[], None]:
        """Call back with each new event once it is durable; returns what ends it."""
        ...

    async def check(self) -> None:
        """Whether a write could succeed now, without writing. Raises LedgerUnwritable."""
        ...


class WatchedLedger(Ledger, Protocol):
    """A ledger whose failures are known to all: see `guarded_ledger`."""

    @property
    def alerts(self) -> tuple[str, ...]:
        """What is wrong with it now, for people; the same value while that does not change."""
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    """The world as the engine sees it."""

    source: Source
    images: Images
    driver: Driver
    front: PortProxy
    supervisor: Supervisor
    prober: Prober
    generations: Generations
    volumes: Volumes
    taps: Taps
    host: Host
    ledger: WatchedLedger
    meter: Meter
    clock: Clock
    tracer: Tracer = UNTRACED
