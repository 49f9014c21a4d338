"""Requests to a running daemon. Each becomes a change of the record, so it survives restarts.

Also what the control API takes as JSON: `op` names the request there. Python code makes them without
checks; bytes and forms from outside are checked against these types by `control/request_bodies.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from reconciler.model.names import NAME_PATTERN, GenerationNumber

LONGEST_SUSPENSION = 366 * 86_400.0
"""Seconds; a suspension without an end lasts until `resume`."""

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Subject = Annotated[str, Field(pattern=r"^((vm|group)/)?" + NAME_PATTERN.removeprefix("^"))]
"""A VM or a group: NAME, or `vm/NAME` and `group/NAME` where both have that name."""
Number = Annotated[GenerationNumber, Field(ge=1, le=2**31)]
Reason = Annotated[str, Field(max_length=1000)]
Prefix = Annotated[str, Field(pattern=r"^[0-9a-f]{7,64}$")]
"""The first 7 or more digits of a revision."""
Seconds = Annotated[float, Field(gt=0, le=LONGEST_SUSPENSION, allow_inf_nan=False)]


TagName = Annotated[str, Field(max_length=1024)]


class _FromOutside:
    """How pydantic reads a request: no unknown keys, no conversions, no input in error messages."""

    __slots__ = ()
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", strict=True, hide_input_in_errors=True
    )


@dataclass(frozen=True, slots=True)
class RollbackTo(_FromOutside):
    """Go back to a committed generation, and stay there until a new digest or `resume`."""

    vm: Name
    to: Number | None = None
    """None: the one before the newest committed."""
    op: Literal["rollback"] = field(default="rollback", kw_only=True)


@dataclass(frozen=True, slots=True)
class Retry(_FromOutside):
    """Lift blocks, holds, quarantine and failed builds of this VM, and try again."""

    vm: Name
    op: Literal["retry"] = field(default="retry", kw_only=True)


@dataclass(frozen=True, slots=True)
class Suspend(_FromOutside):
    """No side effects for this VM or group (None: the whole host) until `resume`."""

    subject: Subject | None = None
    reason: Reason = ""
    seconds: Seconds | None = None
    """How long; None: until a person resumes it."""
    op: Literal["suspend"] = field(default="suspend", kw_only=True)


@dataclass(frozen=True, slots=True)
class Resume(_FromOutside):
    """End the suspension of this VM, and its pin, or of this group (None: of the whole host)."""

    subject: Subject | None = None
    op: Literal["resume"] = field(default="resume", kw_only=True)


@dataclass(frozen=True, slots=True)
class RestartVM(_FromOutside):
    """Replace the guest of this VM by a new one of the same generation."""

    vm: Name
    op: Literal["restart"] = field(default="restart", kw_only=True)


@dataclass(frozen=True, slots=True)
class Promote(_FromOutside):
    """Approve the digests that this group's members are about to take."""

    group: Name
    op: Literal["promote"] = field(default="promote", kw_only=True)


@dataclass(frozen=True, slots=True)
class Abort(_FromOutside):
    """Hold this group's rollout: VMs on trial go back, waiting VMs stay as they are."""

    group: Name
    reason: Reason = ""
    op: Literal["abort"] = field(default="abort", kw_only=True)


@dataclass(frozen=True, slots=True)
class Confirm(_FromOutside):
    """Allow the removals of this revision."""

    revision: Prefix
    op: Literal["confirm"] = field(default="confirm", kw_only=True)


@dataclass(frozen=True, slots=True)
class Remove(_FromOutside):
    """Stop and remove one VM that left the repository, also without `source.prune`; its volumes stay."""

    vm: Name
    op: Literal["remove"] = field(default="remove", kw_only=True)


@dataclass(frozen=True, slots=True)
class Adopt(_FromOutside):
    """Accept a guest that was found after the ledger was lost, and continue with it."""

    vm: Name
    op: Literal["adopt"] = field(default="adopt", kw_only=True)


@dataclass(frozen=True, slots=True)
class AcceptRewrite(_FromOutside):
    """Follow the refused revision although it does not descend from the one followed before."""

    revision: Prefix
    op: Literal["accept-rewrite"] = field(default="accept-rewrite", kw_only=True)


@dataclass(frozen=True, slots=True)
class CollectImages(_FromOutside):
    """Remove every image that nothing names, also what `policy` would keep for a while."""

    op: Literal["collect-images"] = field(default="collect-images", kw_only=True)


@dataclass(frozen=True, slots=True)
class ResolveTags(_FromOutside):
    """Ask the registry again what a tag of an image means, whenever that was last done."""

    tag: TagName | None = None
    """`registry.example.org/acme/app:1`; None: all tags that are desired."""
    op: Literal["resolve-tags"] = field(default="resolve-tags", kw_only=True)


Request = (
    RollbackTo
    | Retry
    | RestartVM
    | Suspend
    | Resume
    | Promote
    | Abort
    | Confirm
    | Remove
    | Adopt
    | AcceptRewrite
    | CollectImages
    | ResolveTags
)
