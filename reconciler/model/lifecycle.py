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
    """The rollback failed too; nothing happens until a new digest or a person lifts it."""

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
    """Whether it was restarted while it lived, for failing liveness; else it ended by itself."""
    since_wall: float = 0.0
    """When the first of these crashes happened."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A guest of a committed generation that ended by itself and must not be started again."""

    generation: GenerationNumber
    why: str
    boot_id: str
    """A reboot of the host starts it again."""
    since_wall: float


@dataclass(frozen=True, slots=True)
class Restarted:
    """The newest restart of a guest."""

    wall: float
    reason: str
    """One of the reasons in `VMRecord.restarts`."""
    why: str = ""


@dataclass(frozen=True, slots=True)
class WantedDigest:
    """The newest desired digest, and whether it came in a burst of changes."""

    digest: Digest
    since: Deadline
    """When it became desired."""
    burst: Deadline | None = None
    """If it closely followed another change: when the burst ends at the latest."""


@dataclass(frozen=True, slots=True)
class Unready:
    """A committed guest lives but may not serve."""

    since_wall: float
    why: str


def crashes_in_words(backoff: Backoff, now: Now) -> str:
    """A text such as `crashed once`, or `crash loop: 7 crashes in 10 min`."""
    count = backoff.crashes
    if count < CRASH_LOOP:
        return f"crashed {'once' if count == 1 else f'{count} times'}"
    if not backoff.since_wall:  # recorded by an older version
        return f"crash loop: {count} crashes in a row"
    return f"crash loop: {count} crashes in {_span(now.wall - backoff.since_wall)}"


def _span(seconds: float) -> str:
    """A rounded duration; at least 1 s, because the wall clock may have been set back."""
    seconds = max(seconds, 1.0)
    if seconds < 2 * MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 2 * HOUR:
        return f"{seconds / MINUTE:.0f} min"
    return f"{seconds / HOUR:.0f} h"
