"""How far the builds of images are: observed while they run, and recorded nowhere."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.model.names import VMName
from reconciler.model.store_status import bytes_text


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """A build that is under way."""

    title: str
    doing: str
    """What is being done: `fetching`, `packing layer 5f70bf18a086`. Empty: nothing yet."""
    done_bytes: int
    """Of what is being done, so far; 0 also where it has no bytes that can be counted."""
    total_bytes: int
    """How many it will be; 0: unknown."""
    since_boot: float
    """When the build began, in boot-clock seconds."""


@dataclass(frozen=True, slots=True)
class BuildStatus:
    """The same for people, with the VMs that it is for."""

    key: str
    title: str
    doing: str
    """See `BuildProgress`."""
    done_bytes: int
    total_bytes: int
    since_wall: float
    vms: tuple[VMName, ...] = ()
    """A few of those whose desired state or last good generation has the image; `more` others do too."""
    more: int = 0


def progress_text(build: BuildStatus) -> str:
    """`fetching, 34 MiB of 120 MiB`; without a known total only what there is so far.

    No share is shown: a total may be a server's word, and what remains after it (packing, storing) has
    none.
    """
    doing = build.doing or "beginning"
    if build.total_bytes:
        return f"{doing}, {bytes_text(build.done_bytes)} of {bytes_text(build.total_bytes)}"
    return f"{doing}, {bytes_text(build.done_bytes)} so far" if build.done_bytes else doing
