"""What a person asks of a running daemon; each becomes a change of the record, so it survives restarts."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.model.names import GenerationNumber


@dataclass(frozen=True, slots=True)
class RollbackTo:
    """Back to a committed generation (None: the one before the newest committed), until a new digest or `resume`."""

    vm: str
    to: GenerationNumber | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """Lift what was condemned, held, quarantined or given up for this VM, and try once more."""

    vm: str


@dataclass(frozen=True, slots=True)
class Suspend:
    """No side effects for this VM or group (None: the whole host) until `resume`."""

    subject: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Resume:
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class Restart:
    """Stop the guest of this VM and start the same generation again."""

    vm: str


Request = RollbackTo | Retry | Suspend | Resume | Restart
