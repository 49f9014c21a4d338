"""Guests that ended or were started anew, as values of the record."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.model.deadline import Deadline
from reconciler.model.names import Digest, GenerationNumber


@dataclass(frozen=True, slots=True)
class Finished:
    """A guest of a committed generation that ended by itself, and is not to be started again."""

    generation: GenerationNumber
    why: str
    boot_id: str
    """A new boot of the host starts it again."""
    since_wall: float


@dataclass(frozen=True, slots=True)
class Restarted:
    """The newest time that a guest was started anew."""

    wall: float
    reason: str
    """As in `restarts`."""
    why: str = ""


@dataclass(frozen=True, slots=True)
class WantedDigest:
    """The newest desired digest, and whether it came in a burst of changes."""

    digest: Digest
    since: Deadline
    """When it became desired."""
    burst: Deadline | None = None
    """The change before it was a moment older: when a burst ends at the latest."""


@dataclass(frozen=True, slots=True)
class Unready:
    """A committed guest lives and may not serve."""

    since_wall: float
    why: str
