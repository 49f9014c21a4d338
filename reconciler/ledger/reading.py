"""Reads the record, events and intents from rows that pass their checksums."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import replace

from reconciler.ledger.codec import checksum, decode, sharing
from reconciler.model.event import Event
from reconciler.model.names import GroupName, VMName
from reconciler.model.record import (
    BuildTrouble,
    GroupRecord,
    Intent,
    Record,
    SourceRecord,
    StoreRecord,
    Suspension,
    VMRecord,
)


class Damaged(Exception):
    """Content that differs from what was written."""


def record(connection: sqlite3.Connection) -> Record:
    """The whole record. Raises Damaged for a row that fails its checksum."""
    share = sharing()
    singles = dict(_rows(connection, "singles"))
    source, suspended, store = map(singles.get, ("source", "suspended", "store"))
    return Record(
        vms={VMName(k): share(decode(VMRecord, b)) for k, b in _rows(connection, "vms")},
        groups={GroupName(k): decode(GroupRecord, b) for k, b in _rows(connection, "groups")},
        builds={k: decode(BuildTrouble, b) for k, b in _rows(connection, "builds")},
        source=SourceRecord() if source is None else decode(SourceRecord, source),
        suspended=None if suspended is None else decode(Suspension, suspended),
        store=StoreRecord() if store is None else decode(StoreRecord, store),
    )


def _rows(connection: sqlite3.Connection, table: str) -> Iterator[tuple[str, bytes]]:
    """Keys and verified bodies."""
    for key, body, crc in connection.execute(
        f"SELECT CAST(key AS BLOB), CAST(body AS BLOB), checksum FROM {table} ORDER BY key"  # noqa: S608
    ):
        name = bytes(key).decode(errors="replace")
        if checksum(table, name, body) != crc:
            raise Damaged(f"row {name!r} of table {table} fails its checksum")
        yield name, body


def events(connection: sqlite3.Connection, after: int, limit: int) -> list[Event]:
    """At most `limit` events after a sequence, oldest first."""
    return _sound_events(
        connection.execute(
            "SELECT sequence, body, checksum FROM events WHERE sequence > ? ORDER BY sequence LIMIT ?",
            (after, limit),
        )
    )


def latest_events(connection: sqlite3.Connection, limit: int) -> list[Event]:
    """The newest events, oldest first."""
    newest = connection.execute(
        "SELECT sequence, body, checksum FROM events ORDER BY sequence DESC LIMIT ?", (limit,)
    ).fetchall()
    return _sound_events(reversed(newest))


def _sound_events(found: Iterable[tuple[int, bytes, int]]) -> list[Event]:
    """Decode events. One that fails its checksum is left out: a lost event is no reason to stop."""
    return [
        replace(decode(Event, body), sequence=sequence)
        for sequence, body, crc in found
        if checksum("events", "", body) == crc
    ]


def open_intents(connection: sqlite3.Connection) -> list[Intent]:
    """Intents without an end, oldest first."""
    found = connection.execute(
        "SELECT id, body, checksum FROM intents WHERE ended_wall IS NULL ORDER BY sequence"
    )
    return [
        decode(Intent, body)
        for name, body, crc in found
        if checksum("intents", bytes(name).decode(errors="replace"), body) == crc
    ]
