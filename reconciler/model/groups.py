"""The manifest of a group: the policy under which its VMs are rolled out."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, Field, model_validator

from reconciler.model.desired import OnFailure
from reconciler.model.fields import (
    EXACTLY_ONE,
    Face,
    FieldConflict,
    Labels,
    Name,
    matching,
    one_of,
    refuse,
    repeated,
)
from reconciler.model.quantity import (
    CountOrShare,
    Duration,
    DurationOrNone,
    WindowDuration,
    refusal,
)

CRON_FIELDS = 5
SOME_DAY = datetime(2024, 1, 1, tzinfo=UTC)
WINDOW_EXAMPLE = '{allow: {cron: "0 2 * * *", duration: 2h}}'


def a_cron(value: str) -> str:
    """Accept a cron expression of five fields that matches some moment."""
    hint = "write minute, hour, day of month, month, day of week: 0 2 * * *"
    if len(value.split()) != CRON_FIELDS:
        raise refusal("is not a cron expression of five fields", hint)
    try:
        if next(CronSim(value, SOME_DAY), None) is None:
            raise refusal("never comes", hint)
    except CronSimError as error:
        reason = str(error).lower().replace("-", " ")
        raise refusal(f"is not a cron expression: {reason}", hint) from None
    return value


Cron = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(a_cron)]
TimeZone = Annotated[
    str,
    matching(r"^[A-Za-z][A-Za-z0-9_+/-]{0,63}$", "a name of the IANA database: Europe/Berlin"),
]
"""A well-formed name; the source checks whether this host has the zone."""


class Stretch(Face):
    """A recurring time, by the wall clock of its zone."""

    cron: Cron = Field(
        description="When it begins: minute, hour, day of month, month, day of week."
    )
    duration: WindowDuration = Field(description="How long it lasts; 168h at most.")
    time_zone: TimeZone = Field(
        default="UTC", description="A name of the IANA database: `Europe/Berlin`."
    )


class Window(Face):
    """Healthy members are changed only inside allowed times, and never inside denied ones."""

    model_config = EXACTLY_ONE
    allow: Stretch | None = Field(default=None, description="Changes may begin in it.")
    deny: Stretch | None = Field(
        default=None, description="No changes may begin in it, even if another window allows them."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        one_of({"allow": self.allow, "deny": self.deny}, "a window", WINDOW_EXAMPLE)
        return self


class GroupMetadata(Face):
    """Name and labels of a group."""

    name: Name = Field(description="Unique among the groups of a repository.")
    labels: Labels = Field(default={}, description="Free text for people and queries.")


class GroupPolicy(Face):
    """How a group's members are updated."""

    max_unavailable: CountOrShare = Field(
        default=1, description="The most members that are down at once; 25% rounds down, to 1."
    )
    canary: list[Name] = Field(
        default=[], max_length=64, description="Members that change before all others."
    )
    canary_soak: DurationOrNone = Field(
        default=0.0, description="How long canaries must stay healthy before the others change."
    )
    on_failure: OnFailure = Field(
        default="halt",
        description="halt: a failed member holds the group; rollbackGroup: members that took the same"
        " revision roll back too; continue: the others go on.",
    )
    max_failures: int | None = Field(
        default=None, ge=1, le=100_000,
        description="With `continue`: the failed members that are tolerated; one more holds the group.",
    )  # fmt: skip
    progress_deadline: Duration | None = Field(
        default=None,
        description="A rollout in which a member is changing and none becomes healthy for this long is held. Time in which all wait, as for a build, memory, a window or an operator, does not count.",
    )
    windows: list[Window] = Field(
        default=[],
        max_length=16,
        description="When healthy members may be changed; none: always.",
    )
    approval: Literal["auto", "manual"] = Field(
        default="auto",
        description="manual: after the canaries, the rollout waits for `reconciler promote`.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        refuse(self._faults())
        return self

    def _faults(self) -> Iterator[FieldConflict]:
        yield from repeated(("canary",), self.canary)
        if self.max_failures is not None and self.on_failure != "continue":
            yield FieldConflict(
                ("maxFailures",), f"has no meaning with onFailure: {self.on_failure}",
                "remove it, or write onFailure: continue",
            )  # fmt: skip
        if self.canary_soak and not self.canary:
            yield FieldConflict(
                ("canarySoak",), "there is no canary to soak", "name one as canary, or remove it"
            )


class Group(Face):
    """VMs that are rolled out under one policy."""

    api_version: Literal["reconciler/v1"] = Field(description="The version of this format.")
    kind: Literal["Group"] = Field(description="What this document declares.")
    metadata: GroupMetadata = Field(description="Its name and labels.")
    spec: GroupPolicy = Field(default=GroupPolicy(), description="How its members change.")
