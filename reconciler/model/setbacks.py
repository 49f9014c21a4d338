"""What went wrong with a VM and is not over: the way back, the end of it, and pauses after crashes."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.model.deadline import Deadline
from reconciler.model.names import Digest, GenerationNumber


@dataclass(frozen=True, slots=True)
class RollbackState:
    """A VM on its way back to its last good generation."""

    bad: GenerationNumber
    target: GenerationNumber
    deadline: Deadline
    reason: str


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Rolling back failed too; nothing is done until a new digest or a person lifts it."""

    reason: str
    digest: Digest
    """The desired digest at that time."""
    since_wall: float


@dataclass(frozen=True, slots=True)
class Backoff:
    """Crashes of a committed generation in a row, and when it may be started again."""

    crashes: int
    until: Deadline
    reason: str
    ill: bool = False
    """It lived and had to be restarted all the same; else it ended by itself."""
    since_wall: float = 0.0
    """When the first of these crashes was."""
