"""The `health` section of a VM's manifest: its checks, and how their answers are judged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

from pydantic import ConfigDict, Field, model_validator

from reconciler.model.fields import (
    Face,
    FieldConflict,
    Port,
    Statuses,
    UrlPath,
    one_of,
    refuse,
)  # fmt: skip
from reconciler.model.health import Purpose
from reconciler.model.quantity import Duration, DurationOrNone

ASKED_PORT = (
    "A forwarded port, by its number on the host. Any other is a port of the guest, asked at the"
    " address of its first tap that has one."
)


class HttpProbe(Face):
    port: Port = Field(description=ASKED_PORT)
    path: UrlPath = Field(default="/", description="What is asked for.")
    status: Statuses = Field(default=(200, 399), description="The statuses that pass.")
    contains: str = Field(
        default="", max_length=256, description="What the first 64 KiB of the body must hold."
    )
    expect_instance: bool = Field(
        default=False,
        description="Whether the answer must name the guest that was started, in the header"
        " `X-Instance-Id` or the first 64 KiB of the body. A guest finds its id in"
        " `/run/reconciler/instance`.",
    )
    timeout: Duration = Field(default=1.0, description="For the whole answer.")


class TcpProbe(Face):
    port: Port = Field(description=ASKED_PORT)
    expect: str = Field(
        default="", max_length=256, description="What the guest must send first; none: stay open."
    )
    timeout: Duration = Field(default=1.0, description="For the whole answer.")


class ProcessProbe(Face):
    """The VMM lives; nothing is asked of the guest."""


def _one_of_the_kinds(schema: dict[str, Any]) -> None:
    """For editors: exactly one kind, beside which the purpose may stand."""
    schema["oneOf"] = [{"required": [kind]} for kind in ("http", "tcp", "process")]


class Check(Face):
    model_config = ConfigDict(json_schema_extra=_one_of_the_kinds)
    http: HttpProbe | None = Field(default=None, description="A web server answers.")
    tcp: TcpProbe | None = Field(default=None, description="A port is open.")
    process: ProcessProbe | None = Field(
        default=None, description="The VMM's process lives: write `{}`."
    )
    purpose: Purpose = Field(
        default="readiness",
        description="readiness: may it serve; a failure restarts nothing. liveness: a guest that"
        " fails it is restarted, too. Of no effect on `process`, which cannot fail while the guest lives.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = {"http": self.http, "tcp": self.tcp, "process": self.process}
        one_of(given, "a check", "{http: {port: 8080}}")
        return self


class Health(Face):
    startup_deadline: Duration = Field(
        default=300.0,
        description="From start to a healthy guest; past it the generation failed. Changed alone"
        " it bounds the trial of changed checks, and a shorter one counts from the next generation on.",
    )
    min_healthy_time: DurationOrNone = Field(
        default=10.0, description="Healthy without a break for so long, and the generation is good."
    )
    period: Duration = Field(default=10.0, description="From one round of checks to the next.")
    failure_threshold: int = Field(
        default=3, ge=1, le=100, description="Failing rounds in a row that make a guest unhealthy."
    )
    checks: list[Check] = Field(
        default=[],
        max_length=16,
        description="All must pass. None: healthy once its init has said that it is up.",
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
            for kind, probe in (("http", check.http), ("tcp", check.tcp)):
                if probe is not None and probe.timeout >= patience:
                    yield FieldConflict(
                        ("checks", index, kind, "timeout"),
                        "is not shorter than period x failureThreshold",
                        "a guest would be judged before its first answer is due",
                    )
