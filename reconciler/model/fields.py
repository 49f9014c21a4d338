"""What all models of manifests share: the base class, scalar fields, and their error messages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import AddressValueError, IPv4Address, IPv4Interface
from typing import Annotated, Any, NamedTuple

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from reconciler.model.names import NAME_PATTERN
from reconciler.model.quantity import refusal

FIRST_STATUS, LAST_STATUS = 100, 599
STATUS_RE = re.compile(r"^([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?$")
SYSTEM_MOUNTS = ("/proc", "/sys", "/dev")
MULTICAST_BIT = 1
WHOLE_NETWORKS = 30
"""Longer prefixes have no network and broadcast addresses."""
EXACTLY_ONE = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})


class Face(BaseModel):
    """Base of all manifest models: strict, frozen, unknown fields forbidden, camelCase names."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        hide_input_in_errors=True,
        alias_generator=to_camel,
    )


class FieldConflict(NamedTuple):
    """A conflict between fields that are each well formed; `at` is relative to the model."""

    at: tuple[str | int, ...]
    message: str
    hint: str = ""


def refuse(faults: Iterable[FieldConflict]) -> None:
    """Raise pydantic's error for all conflicts, if there are any."""
    found = tuple(faults)
    if found:
        raise PydanticCustomError("faults", "{text}", {"faults": found, "text": found[0].message})


def _an_ipv4(value: str) -> str:
    try:
        return str(IPv4Address(value))
    except AddressValueError:
        raise refusal("is not an IPv4 address", "write 127.0.0.1 or 0.0.0.0") from None


def an_address_with_prefix(value: str) -> str:
    """An address with prefix that a guest can have: not loopback, broadcast, unspecified or the network's own."""
    try:
        found = IPv4Interface(value)
    except ValueError:
        found = None
    if found is None or "/" not in value:
        raise refusal("is not an IPv4 address with a prefix", "write 10.20.0.5/24") from None
    network = found.network
    ends = () if network.prefixlen > WHOLE_NETWORKS else (network[0], network[-1])
    odd = found.is_loopback or found.is_multicast or found.is_unspecified or found.is_reserved
    if odd or found.is_link_local or found.ip in ends or not network.prefixlen:
        raise refusal("is not an address that a guest can have", "write one as 10.20.0.5/24")
    return str(found)


def _a_unicast_mac(value: str) -> str:
    if int(value[:2], 16) & MULTICAST_BIT:
        raise refusal("is a multicast address", "let it begin with 52:54:00")
    return value


def _a_mount_point(value: str) -> str:
    parts = value.split("/")[1:]
    if not all(parts) or {".", ".."} & set(parts):
        raise refusal("is not a plain absolute path", "write it without `..`, `//` and a last `/`")
    if f"/{parts[0]}" in SYSTEM_MOUNTS:
        raise refusal("belongs to the guest's kernel", "choose a folder of your own")
    return value


def a_folder(value: str) -> str:
    """Accept a relative folder; the error type is pydantic's."""
    if value.startswith("/"):
        raise refusal("is absolute", "write it relative to the manifest: ./web")
    return value


def _statuses(value: object) -> tuple[int, int]:
    found = STATUS_RE.fullmatch(str(value)) if isinstance(value, int | str) else None
    if found is None:
        raise refusal("is not an HTTP status", "write 200 or 200-399")
    low, high = int(found[1]), int(found[2] or found[1])
    if low > high:
        raise refusal("is an empty range", "write the lower status first")
    return low, high


def one_of(given: Mapping[str, object], what: str, example: str) -> None:
    """Refuse a mapping unless exactly one of these values is given."""
    present = [name for name, value in given.items() if value is not None]
    if len(present) != 1:
        names = ", ".join(given)
        refuse([FieldConflict((), f"{what} is exactly one of {names}", f"write {example}")])


class TextForm(NamedTuple):
    """What a text with a pattern must look like, for people."""

    hint: str
    most: int
    """Maximum number of characters, if the pattern says it; 0: it does not."""


FORMS: dict[str, TextForm] = {}
"""By the pattern: messages about a text that does not match are made from it."""


def matching(pattern: str, hint: str, *, most: int = 0, max_length: int | None = None) -> Any:
    """Declares a text with a pattern, in `Annotated[str, ...]`; arguments as in `TextForm`."""
    FORMS[pattern] = TextForm(hint, most)
    return Field(pattern=pattern, max_length=max_length)


NAME_HINT = "lower-case letters, digits and inner dashes"
Name = Annotated[str, matching(NAME_PATTERN, NAME_HINT, most=40)]
VolumeName = Annotated[str, matching(r"^[a-z0-9]([-a-z0-9]{0,14}[a-z0-9])?$", NAME_HINT, most=16)]
Port = Annotated[int, Field(ge=1, le=65535)]
Address = Annotated[
    str, AfterValidator(_an_ipv4), WithJsonSchema({"type": "string", "format": "ipv4"})
]
NetworkAddress = Annotated[
    str, AfterValidator(an_address_with_prefix), WithJsonSchema({"type": "string"})
]
InterfaceName = Annotated[
    str,
    matching(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$", "letters, digits and _.-, at most 15", most=15),
]
Mac = Annotated[
    str,
    matching(
        r"^[0-9a-f]{2}(:[0-9a-f]{2}){5}$",
        "six pairs of lower-case hex digits: 52:54:00:12:34:56",
    ),
    AfterValidator(_a_unicast_mac),
]
MountPoint = Annotated[
    str,
    matching(r"^/[A-Za-z0-9._/-]+$", "an absolute path of letters, digits and ._-", max_length=255),
    AfterValidator(_a_mount_point),
]
HostPath = Annotated[
    str, matching(r"^/[A-Za-z0-9._/+-]+$", "begin with /, and no spaces", max_length=1024)
]
Folder = Annotated[
    str,
    matching(r"^[^\x00-\x1f\x7f\\]+$", "a relative path, as in ./web", max_length=1024),
    AfterValidator(a_folder),
]
UrlPath = Annotated[str, matching(r"^/[!-~]*$", "begin with /, and no spaces", max_length=1024)]
Statuses = Annotated[
    tuple[int, int],
    PlainValidator(_statuses),
    PlainSerializer(lambda pair: f"{pair[0]}-{pair[1]}"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": FIRST_STATUS, "maximum": LAST_STATUS},
                {"type": "string", "pattern": STATUS_RE.pattern},
            ]
        }
    ),
]
LABEL_HINT = "letters, digits and ._/-, at most 63"
Labels = Annotated[
    dict[
        Annotated[str, matching(r"^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$", LABEL_HINT)],
        Annotated[str, matching(r"^[A-Za-z0-9._/-]{0,63}$", LABEL_HINT)],
    ],
    Field(max_length=32),
]


def repeated(at: tuple[str, ...], names: list[str]) -> Iterator[FieldConflict]:
    """A conflict for each name that a list has twice."""
    for index, name in enumerate(names):
        if name in names[:index]:
            yield FieldConflict((*at, index), f"{name} is named twice", "remove one")
