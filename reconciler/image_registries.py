"""How this host reaches registries of OCI images: the entries of `[[registries]]` of the config."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Self

from pydantic import AfterValidator, model_validator

from reconciler.config_fields import HostPath, Secret, Section
from reconciler.image_references import PATH_PART, REGISTRY, registry_of


def _text(pattern: str, hint: str, most: int = 512) -> AfterValidator:
    """A text of the config that must match; pydantic's own message would show the pattern."""

    def check(value: str) -> str:
        if len(value) > most or not re.fullmatch(pattern, value):
            raise ValueError(hint)
        return value

    return AfterValidator(check)


ImagePattern = Annotated[
    str,
    _text(
        rf"{REGISTRY}/[a-z0-9._/*-]+",
        "write a registry, a slash, and `*` for any text behind it: registry.example.org/acme/*",
    ),
]
Registry = Annotated[
    str, _text(REGISTRY, "write a host with a dot or a port: registry.example.org, registry:5000")
]
Location = Annotated[
    str,
    _text(rf"{REGISTRY}(?:/{PATH_PART})*", "write a host, or a part of one: mirror.lan:5000/acme"),
]


class RegistryConfig(Section):
    """How one registry is reached, an entry of `[[registries]]`; one without an entry is reached as it is."""

    name: Registry
    """The host, and the port if it has one, as manifests write it."""
    mirrors: list[Location] = []
    """Asked before the registry itself, in this order."""
    credentials_file: Secret = ""
    """A file or credential as `containers-auth.json(5)` says, for the registry and its mirrors."""
    ca_file: HostPath = ""
    """A PEM file of certificates that are trusted beside the system's, for the registry and its mirrors."""
    insecure: bool = False
    """Whether plain http is allowed; of loopback addresses only."""

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if self.insecure and not all(map(_on_loopback, (self.name, *self.mirrors))):
            raise ValueError("insecure is for registries and mirrors on loopback addresses only")
        return self


def _on_loopback(location: str) -> bool:
    host = registry_of(location).rsplit(":", 1)[0]
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
