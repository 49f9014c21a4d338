"""The `health` section of a VM's manifest: its checks, and how their answers are judged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from pydantic import Field, model_validator

from reconciler.model.checks import Check
from reconciler.model.fields import Face, FieldConflict, refuse
from reconciler.model.quantity import Duration, DurationOrNone


class Health(Face):
    """How a guest is judged: its checks, and the times that apply to them."""

    startup_deadline: Duration = Field(
        default=300.0,
        description="The longest time from start to a healthy guest; beyond it the generation failed. Changed alone"
        " it bounds the trial of changed checks, and a shorter one applies from the next generation.",
    )
    min_healthy_time: DurationOrNone = Field(
        default=10.0,
        description="A generation is good after being healthy for this long without a break.",
    )
    period: Duration = Field(default=10.0, description="From one round of checks to the next.")
    failure_threshold: int = Field(
        default=3, ge=1, le=100, description="Failing rounds in a row that make a guest unhealthy."
    )
    checks: list[Check] = Field(
        default=[],
        max_length=16,
        description="All must pass. None: healthy once its init reports that it is up.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        refuse(self._faults())
        return self

    def _faults(self) -> Iterator[FieldConflict]:
        if self.min_healthy_time >= self.startup_deadline:
            yield FieldConflict(
                ("minHealthyTime",), "is not shorter than startupDeadline",
                "a guest could never be healthy in time",
            )  # fmt: skip
        patience = self.period * self.failure_threshold
        for index, check in enumerate(self.checks):
            kind, probe = check.given
            if probe.longest is not None and probe.longest >= patience:
                yield FieldConflict(
                    ("checks", index, kind, "timeout"),
                    "is not shorter than period x failureThreshold",
                    "a guest would be judged before its first answer is due",
                )
