"""What the engine asks of the world. Adapters satisfy these by shape; the daemon hands them over.

Every call has a deadline of its own and raises only the errors named here. Methods that are not
`async` never block: they answer from memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from reconciler.clock import Clock
from reconciler.content_store import ContentStore
from reconciler.engine.guest_interfaces import (
    Drivers,
    Generations,
    PortProxy,
    Supervisor,
    Taps,
    Volumes,
)
from reconciler.engine.metering import Meter
from reconciler.model.build_progress import BuildProgress
from reconciler.model.change import Change
from reconciler.model.desired import ANY, DesiredState, Fetched, Lineage
from reconciler.model.event import Event
from reconciler.model.health import ProbeCounts, ProbePlan, Round
from reconciler.model.image import BuiltImage, KernelSpec, StoredImage
from reconciler.model.image_tags import Tag
from reconciler.model.layers import LayerSpec
from reconciler.model.machine import (
    HostPort,
)
from reconciler.model.names import (
    InstanceId,
    KernelKey,
    LayerKey,
    Revision,
    VMName,
)
from reconciler.model.observed import HostFacts
from reconciler.model.record import Intent, Record
from reconciler.model.source_state import CommitSummary
from reconciler.model.status import SourceStatus
from reconciler.model.store_status import ImageCheck
from reconciler.spans import UNTRACED, Tracer

Wake = Callable[[], None]
"""Tells the loop that something may have changed. Callable from the loop's thread only."""


class Source(ContentStore, Protocol):
    """Where desired states come from, and the content that their layers are made of."""

    async def fetch(self, lineage: Lineage = ANY) -> Fetched:
        """Look now.

        Raises SourceError (nothing could be read), RevisionRefused (what was fetched does not
        continue `lineage`, or lacks signatures) or ManifestErrors (read, and bad).
        """
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

    def parts(self) -> Mapping[LayerKey, tuple[LayerKey, ...]]:
        """Of each layer that is composed of several images, missing or not: their keys, bottom first."""
        ...

    def hash_trees(self) -> Mapping[LayerKey, str]:
        """Of each layer whose image ends in a tree of hashes: its blocks and the tree's root, `BLOCKS:ROOT`."""
        ...

    def kernels(self) -> frozenset[KernelKey]:
        """Kernel bundles, and runners that are booted in place of one."""
        ...

    def announcing(self) -> frozenset[KernelKey]:
        """Kernel bundles whose initrd sees to it that a guest says when it is up."""
        ...

    async def build_layer(self, spec: LayerSpec, content: ContentStore) -> BuiltImage:
        """Make a layer, or verify that it is there. Raises BuildFailed or BuildUnavailable.

        Cancelling it ends the builder's whole process group.
        """
        ...

    async def build_kernel(self, spec: KernelSpec, content: ContentStore) -> BuiltImage: ...

    def progress(self) -> Mapping[str, BuildProgress]:
        """How far the builds are that run, by key; the same object while nothing changed."""
        ...

    async def look(self, keys: frozenset[str] | None = None) -> frozenset[str]:
        """Look whether these images, or all, are still there; returns those newly found missing.

        Cheap: no content is read.
        """
        ...

    async def collect(self, pinned: frozenset[str]) -> int:
        """Remove what neither a pin names nor the newest plan; returns the bytes freed. Raises ImageError."""
        ...


class ImageTags(Protocol):
    """Registries that know what tags of images mean."""

    async def look_up(self, tag: Tag) -> str:
        """The digest of the image that is meant now.

        Raises BuildUnavailable, or BuildFailed for what is no image.
        """
        ...


class ImageInventory(Protocol):
    """What is in the store, image by image."""

    def stored(self) -> Mapping[str, StoredImage]:
        """What is in the store by key, also what is broken; the same object while nothing changed."""
        ...

    def used(self, keys: frozenset[str]) -> None:
        """From now on these are the ones that something names."""
        ...

    async def read_again(
        self, key: str, *, bytes_per_second: float, progress: Callable[[int], None]
    ) -> ImageCheck:
        """Compare all bytes of an image with what was made; one that differs counts as missing then.

        `progress` gets the bytes read so far, in another thread. Cancelling it ends the reading.
        """
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
class Adapters:
    """The world as the engine sees it."""

    source: Source
    images: Images
    inventory: ImageInventory
    tags: ImageTags
    drivers: Drivers
    proxy: PortProxy
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
