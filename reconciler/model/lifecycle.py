"""States of a VM's life that the record holds: rollback, quarantine, crashes in a row, restarts, not ready."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.model.names import Digest, GenerationNumber
from reconciler.model.policy import CRASH_LOOP
from reconciler.now import Deadline, Now

MINUTE, HOUR = 60.0, 3600.0


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


def crashes_in_words(backoff: Backoff, now: Now) -> str:
    """`crashed once`, or `crash loop: 7 crashes in 10 min`."""
    count = backoff.crashes
    if count < CRASH_LOOP:
        return f"crashed {'once' if count == 1 else f'{count} times'}"
    if not backoff.since_wall:  # of an older version
        return f"crash loop: {count} crashes in a row"
    return f"crash loop: {count} crashes in {_span(now.wall - backoff.since_wall)}"


def _span(seconds: float) -> str:
    """Rounded; the wall clock may have been set back."""
    seconds = max(seconds, 1.0)
    if seconds < 2 * MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 2 * HOUR:
        return f"{seconds / MINUTE:.0f} min"
    return f"{seconds / HOUR:.0f} h"
