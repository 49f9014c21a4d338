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
    """No side effects for this VM or group (None: the whole host) until `resume`.

    `vm/NAME` or `group/NAME` where the name is of both.
    """

    subject: str | None = None
    reason: str = ""
    seconds: float | None = None
    """How long; None: until a person resumes it."""


@dataclass(frozen=True, slots=True)
class Resume:
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class RestartVM:
    """Replace the guest of this VM by a new one of the same generation."""

    vm: str


@dataclass(frozen=True, slots=True)
class Promote:
    """Approve the digests that this group's members are about to take."""

    group: str


@dataclass(frozen=True, slots=True)
class Abort:
    """Hold this group's rollout: who is on trial goes back, who waits stays."""

    group: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Confirm:
    """Allow the removals of this revision (a prefix of at least 7 digits will do)."""

    revision: str


@dataclass(frozen=True, slots=True)
class Remove:
    """Stop and remove one VM that left the repository, whatever `source.prune` says; its volumes stay."""

    vm: str


@dataclass(frozen=True, slots=True)
class Adopt:
    """Take a guest that was found after the ledger was lost as what should run, and go on."""

    vm: str


@dataclass(frozen=True, slots=True)
class AcceptRewrite:
    """Follow the refused revision although it continues nothing that was followed before."""

    revision: str


Request = (
    RollbackTo
    | Retry
    | Suspend
    | Resume
    | RestartVM
    | Promote
    | Abort
    | Confirm
    | Remove
    | Adopt
    | AcceptRewrite
)
