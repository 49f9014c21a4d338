"""Values of the record as JSON text and back, exactly, with a checksum that finds a flipped bit."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from reconciler.errors import LedgerError
from reconciler.model.desired import VMSpec
from reconciler.model.event import Event
from reconciler.model.record import (
    BuildTrouble,
    Generation,
    GroupRecord,
    Intent,
    SourceRecord,
    StoreRecord,
    Suspension,
    VMRecord,
)


@dataclass(frozen=True, slots=True)
class StoredEvent(Event):
    """An event as a row holds it: its kind may be one that only another version knows."""

    kind: str  # type: ignore[assignment]  # wider than an event's: it is only read


Body = (
    VMRecord | GroupRecord | BuildTrouble | SourceRecord | StoreRecord | Suspension | Event | Intent
)
T = TypeVar("T", bound=Body)
Part = TypeVar("Part")

# A deadline that never passes is infinite, which plain JSON would store as null.
LENIENT = ConfigDict(ser_json_inf_nan="constants")


@cache
def _adapters() -> dict[Any, TypeAdapter[Any]]:
    """Built on first use, as it takes tens of milliseconds.

    Each is for a one-tuple, because pydantic accepts no configuration for a bare dataclass.
    """
    return {
        VMRecord: TypeAdapter(tuple[VMRecord], config=LENIENT),
        GroupRecord: TypeAdapter(tuple[GroupRecord], config=LENIENT),
        BuildTrouble: TypeAdapter(tuple[BuildTrouble], config=LENIENT),
        SourceRecord: TypeAdapter(tuple[SourceRecord], config=LENIENT),
        StoreRecord: TypeAdapter(tuple[StoreRecord], config=LENIENT),
        Suspension: TypeAdapter(tuple[Suspension], config=LENIENT),
        Event: TypeAdapter(tuple[Event], config=LENIENT),
        StoredEvent: TypeAdapter(tuple[StoredEvent], config=LENIENT),
        Intent: TypeAdapter(tuple[Intent], config=LENIENT),
    }


def encode(value: Body) -> str:
    """JSON of a value. Raises UnicodeError for text that is not Unicode; see `mended`."""
    try:
        return _adapters()[type(value)].dump_json((value,)).decode()
    except PydanticSerializationError as error:
        raise UnicodeError(f"{type(value).__name__}: {error}") from error


def mended(value: T) -> T:
    """The value with each lone surrogate replaced by `?`.

    Consoles and paths may contain bytes that are not text; they must not keep the rest from being
    written.
    """
    plain = _adapters()[type(value)].dump_python((value,))
    text = json.dumps(plain, ensure_ascii=False).encode("utf-8", "replace")
    return decode(type(value), text)


def decode(kind: type[T], body: bytes) -> T:
    """The value of a JSON body. Raises LedgerError if another version wrote a form that is unknown here."""
    try:
        adapter = _adapters()[StoredEvent if kind is Event else kind]
        value: T = adapter.validate_json(body, strict=True)[0]
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        raise LedgerError(
            f"the ledger holds a {kind.__name__} that cannot be read: {where}: {first['msg']}",
            hint="run the version that wrote it, or move the ledger away: guests are then adopted",
        ) from error
    return _event(value) if isinstance(value, StoredEvent) else value


def _event(stored: StoredEvent) -> Any:
    return Event(*(getattr(stored, field.name) for field in fields(Event)))


def checksum(table: str, key: str, body: bytes) -> int:
    """crc32 of a row. It covers the key too, so that a row cannot pass for another."""
    return zlib.crc32(body, zlib.crc32(f"{table}\0{key}\0".encode()))


def sharing() -> Callable[[VMRecord], VMRecord]:
    """A function that shares equal parts of all records passed to it, to save memory.

    Most generations and VMs have the same kernel, layers and policies, but records that were just
    read have a copy of them in every generation.
    """
    pool: dict[Any, Any] = {}

    def one(value: Part) -> Part:
        shared: Part = pool.setdefault(value, value)
        return shared

    def spec(own: VMSpec) -> VMSpec:
        return replace(
            own,
            labels=one(own.labels),
            kernel=one(own.kernel),
            layers=tuple([one(layer) for layer in own.layers]),
            volumes=one(own.volumes),
            networks=one(own.networks),
            taps=one(own.taps),
            health=one(own.health),
            update=one(own.update),
            rollback=one(own.rollback),
        )

    def generation(own: Generation) -> Generation:
        return replace(own, revision=one(own.revision), spec=spec(own.spec))

    def vm(own: VMRecord) -> VMRecord:
        return replace(own, generations=tuple([generation(g) for g in own.generations]))

    return vm
