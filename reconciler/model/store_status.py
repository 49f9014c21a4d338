"""The store of images as people see it: what is in it, who names it, and what may go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reconciler.model.image import StoredKind
from reconciler.model.layer_kinds.oci_layer import Resolve
from reconciler.model.names import GenerationNumber, VMName

TENS = 9.95
"""From here on a figure has two digits before the point, and needs none behind it."""
ImageState = Literal["used", "kept", "unused", "missing", "broken"]
"""What an image is to this host:

used     a guest runs on it, or a VM is to run it: it is desired, or of a last good generation
kept     only generations that a VM may go back to name it
unused   nothing names it
missing  something names it, and it is not in the store: it is built before its next use
broken   its bytes are not those that were made: the same
"""


@dataclass(frozen=True, slots=True)
class ImageStatus:
    """One image, in the store or missing."""

    key: str
    kind: StoredKind
    title: str
    size_bytes: int
    """Of a composed layer: of all its parts together, which may belong to others too."""
    state: ImageState
    vms: int = 0
    """VMs that name it."""
    generations: int = 0
    """Generations that name it, of all VMs."""
    made_wall: float = 0.0
    used_wall: float = 0.0
    """When something last named it; 0: unknown, or it is named now."""
    checked_wall: float = 0.0
    """When all of its bytes were last read and found sound; 0: not since it was made."""
    parts: tuple[str, ...] = ()
    """Keys of the images of which it is composed, bottom first."""
    broken: str = ""
    """What is wrong with its bytes."""
    wanted: bool = False
    """The desired state names it."""
    building: bool = False
    collectable: bool = False
    """The next collection removes it."""


@dataclass(frozen=True, slots=True)
class ImageUse:
    """One reason why an image stays."""

    vm: VMName
    generation: GenerationNumber | None
    """None: the desired state, before a generation was made of it."""
    why: str


@dataclass(frozen=True, slots=True)
class ImageUses:
    """One image with all that names it."""

    image: ImageStatus
    uses: tuple[ImageUse, ...] = ()
    """A bounded number, by VM; `more` others are only counted."""
    more: int = 0
    part_of: tuple[str, ...] = ()
    """Titles of the composed layers that it is a part of."""


@dataclass(frozen=True, slots=True)
class TagStatus:
    """A tag of an image, and what it means on this host."""

    reference: str
    """`registry.example.org/acme/app:1`."""
    resolve: Resolve
    digest: str = ""
    """Empty: it was never looked up with success."""
    since_wall: float = 0.0
    """When it was first found to mean this."""
    looked_wall: float = 0.0
    """When it was last looked up with success."""
    vms: tuple[VMName, ...] = ()
    """VMs whose desired state names it."""
    error: str = ""
    """Why the newest lookup failed."""
    looking: bool = False
    """It is being looked up, or is next."""


@dataclass(frozen=True, slots=True)
class StoreShare:
    """All images of one kind in one state."""

    kind: StoredKind
    state: ImageState
    images: int
    size_bytes: int
    """Each image counts once, a part only as itself."""


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """The store in figures."""

    shares: tuple[StoreShare, ...] = ()
    vms: int = 0
    """VMs that name at least one image that is there."""
    saved_bytes: int = 0
    """What a copy for each VM would take beyond the one copy that is there."""
    oldest_check_wall: float = 0.0
    """When the image was last read that was not read for the longest time; 0: there is none."""
    max_bytes: int = 0
    """`policy.store_max_mib` in bytes; 0: it has no bound, and keeps nothing that is unused."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should look at."""
        named = self.total("used", "kept")
        if not 0 < self.max_bytes < named:
            return ()
        words = (
            f"store: images that VMs and their generations name take {named >> 20}MiB, more than"
            f" policy.store_max_mib {self.max_bytes >> 20}: none is removed, and builds go on;"
            " raise it, or keep fewer generations"
        )
        return (words,)

    def total(self, *states: ImageState) -> int:
        """Bytes of all images, or of those in these states."""
        return sum(s.size_bytes for s in self.shares if not states or s.state in states)

    def count(self, *states: ImageState) -> int:
        """How many images there are, or are in these states."""
        return sum(s.images for s in self.shares if not states or s.state in states)


@dataclass(frozen=True, slots=True)
class StoreReport:
    """All images, and the store in figures."""

    images: tuple[ImageStatus, ...]
    """Composed layers first, each before its parts; then by what they take, the largest first."""
    store: StoreStatus
    tags: tuple[TagStatus, ...] = ()
    """Tags by which VMs name images."""


CheckResult = Literal["", "sound", "rotten", "gone", "unchecked"]
"""How the reading of an image ended; empty: it goes on. gone: it left the store meanwhile."""


@dataclass(frozen=True, slots=True)
class ImageCheck:
    """How far the reading of one image is, or how it ended."""

    key: str
    title: str
    size_bytes: int
    read_bytes: int
    result: CheckResult = ""
    why: str = ""
    """What is wrong, or why it was not read."""
    images: int = 1
    """How many are read in all."""


def bytes_text(number: int) -> str:
    """Bytes as one figure: `512 B`, `17 KiB`, `4.2 MiB`, `1.3 GiB`."""
    for shift, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if number >= 1 << shift:
            exact = number / (1 << shift)
            return f"{exact:.1f} {unit}" if exact < TENS else f"{exact:.0f} {unit}"
    return f"{number} B"
