"""The kinds of health checks: their fields in a manifest, and the question that is asked of a guest.

Each kind has a *probe*, its part of the manifest, and a *check*, the question to a guest.
`reconciler/probe/README.md` says how to add a kind.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, Self, get_args

from pydantic import ConfigDict, Field, model_validator

from reconciler.model.fields import Face, FieldConflict, Port, Statuses, UrlPath, one_of
from reconciler.model.quantity import Duration

Purpose = Literal["readiness", "liveness"]
"""readiness: may the guest serve. liveness: must it also be restarted. A trial needs both."""
HostOf = Callable[[int], str]
"""The address at which a port of the manifest is asked."""
ASKED_PORT = (
    "A forwarded port, by its number on the host. Any other is a port of the guest, asked at the"
    " address of its first tap that has one."
)


class Probe(Face):
    """The fields of one kind of check in a manifest."""

    only_purpose: ClassVar[Purpose | None] = None
    """The purpose of every check of this kind, whatever is written; `validate` warns about another one.
    None: as it is written."""

    @abstractmethod
    def check(self, purpose: Purpose, host_of: HostOf) -> CheckSpec:
        """The check to run against a guest; `host_of` maps a port to the address to ask."""

    @property
    def asked_port(self) -> int | None:
        """The port it asks, as in the manifest; None if it asks no port."""
        return None

    @property
    def longest(self) -> float | None:
        """Time limit of the answer in seconds; None if it does not wait for the guest."""
        return None


@dataclass(frozen=True, slots=True)
class HttpCheck:
    """Send a GET request; pass on a matching answer. `timeout` is in seconds."""

    port: int
    path: str = "/"
    host: str = "127.0.0.1"
    status: tuple[int, int] = (200, 399)
    """Lowest and highest status that count as success."""
    contains: str = ""
    """Text that the first 64 KiB of the body must contain; empty: any body passes."""
    timeout: float = 1.0
    expect_instance: bool = False
    """Whether the answer must name the instance that is asked, in `X-Instance-Id` or in the body."""
    purpose: Purpose = "readiness"
    device: str = ""
    """The interface of this host to which connections are bound; empty: the host's routing decides."""
    kind: Literal["http"] = "http"


class HttpProbe(Probe):
    """A GET request to a web server in the guest."""

    port: Port = Field(description=ASKED_PORT)
    path: UrlPath = Field(default="/", description="The path of the request.")
    status: Statuses = Field(default=(200, 399), description="The statuses that pass.")
    contains: str = Field(
        default="",
        max_length=256,
        description="Text that the first 64 KiB of the body must contain.",
    )
    expect_instance: bool = Field(
        default=False,
        description="Whether the response must have the instance id of the guest, in the header"
        " `X-Instance-Id` or the first 64 KiB of the body. A guest finds its id in"
        " `/run/reconciler/instance`.",
    )
    timeout: Duration = Field(default=1.0, description="For the whole response.")

    def check(self, purpose: Purpose, host_of: HostOf) -> HttpCheck:
        """The check, with the address to ask."""
        return HttpCheck(
            self.port, self.path, host_of(self.port), self.status, self.contains, self.timeout,
            self.expect_instance, purpose,
        )  # fmt: skip

    @property
    def asked_port(self) -> int:
        """The port of the request."""
        return self.port

    @property
    def longest(self) -> float:
        """Its timeout."""
        return self.timeout


@dataclass(frozen=True, slots=True)
class TcpCheck:
    """Connect, and expect a text or any sign of a server. `timeout` is in seconds."""

    port: int
    host: str = "127.0.0.1"
    expect: str = ""
    """Text that the peer must send first; without it see `probe/tcp.py`."""
    timeout: float = 1.0
    purpose: Purpose = "readiness"
    device: str = ""
    """As of HttpCheck."""
    kind: Literal["tcp"] = "tcp"


class TcpProbe(Probe):
    """A connection to a TCP port of the guest."""

    port: Port = Field(description=ASKED_PORT)
    expect: str = Field(
        default="",
        max_length=256,
        description="What the guest must send first; none: the connection must stay open.",
    )
    timeout: Duration = Field(default=1.0, description="For the whole response.")

    def check(self, purpose: Purpose, host_of: HostOf) -> TcpCheck:
        """The check, with the address to ask."""
        return TcpCheck(self.port, host_of(self.port), self.expect, self.timeout, purpose)

    @property
    def asked_port(self) -> int:
        """The port of the connection."""
        return self.port

    @property
    def longest(self) -> float:
        """Its timeout."""
        return self.timeout


@dataclass(frozen=True, slots=True)
class ProcessCheck:
    """Passes while the VMM lives; the guest is not asked."""

    kind: Literal["process"] = "process"
    purpose: ClassVar[Purpose] = "liveness"
    """It fails when the guest has ended, which is a reason to start one."""


class ProcessProbe(Probe):
    """Passes while the VMM lives; the guest is not asked."""

    only_purpose: ClassVar[Purpose | None] = "liveness"

    def check(self, purpose: Purpose, host_of: HostOf) -> ProcessCheck:  # noqa: ARG002 - as of every kind
        """The check, which needs no address."""
        return ProcessCheck()


CheckSpec = HttpCheck | TcpCheck | ProcessCheck
"""Stored with its `kind`. Forms stored before there was a `kind` are distinguished by their fields."""
NetworkCheck = HttpCheck | TcpCheck
"""Kinds that ask a port at an address; planning directs them to the right guest."""


def _one_of_the_kinds(schema: dict[str, Any]) -> None:
    """For editors: exactly one kind, beside which the purpose may stand."""
    schema["oneOf"] = [{"required": [kind]} for kind in schema["properties"] if kind != "purpose"]


class Check(Face):
    """One health check: exactly one kind, and its purpose."""

    model_config = ConfigDict(json_schema_extra=_one_of_the_kinds)
    http: HttpProbe | None = Field(default=None, description="A web server answers.")
    tcp: TcpProbe | None = Field(default=None, description="A port is open.")
    process: ProcessProbe | None = Field(
        default=None, description="The VMM's process lives: write `{}`."
    )
    purpose: Purpose = Field(
        default="readiness",
        description="readiness: may it serve; a failure restarts nothing. liveness: a guest that"
        " fails it is also restarted. No effect on `process`, which cannot fail while the guest lives.",
    )

    @property
    def kinds(self) -> dict[str, Probe | None]:
        """All kinds by their key in the manifest; None for those it does not have."""
        named = {each.alias or name: name for name, each in type(self).model_fields.items()}
        return {key: getattr(self, name) for key, name in named.items() if name != "purpose"}

    @property
    def given(self) -> tuple[str, Probe]:
        """The key and the fields of the one kind that the manifest has."""
        return next((key, probe) for key, probe in self.kinds.items() if probe is not None)

    @property
    def effective_purpose(self) -> Purpose:
        """As it is written, unless the kind has only one."""
        return self.given[1].only_purpose or self.purpose

    @property
    def ineffective(self) -> FieldConflict | None:
        """What is written and has no effect."""
        kind, probe = self.given
        if "purpose" not in self.model_fields_set or self.purpose == self.effective_purpose:
            return None
        return FieldConflict(
            ("purpose",), f"has no effect: the purpose of {kind} is always {probe.only_purpose}",
            "remove it",
        )  # fmt: skip

    @model_validator(mode="after")
    def _check(self) -> Self:
        one_of(self.kinds, "a check", "{http: {port: 8080}}")
        return self


CHECK_KINDS: tuple[str, ...] = tuple(
    str(each.default)
    for check in get_args(CheckSpec)
    for each in fields(check)
    if each.name == "kind"
)
"""The names of all kinds: they label metrics, and registries have an entry for each."""

ASKING_KINDS = tuple(kind for kind in CHECK_KINDS if kind != ProcessCheck().kind)
"""Those that ask the guest itself."""
