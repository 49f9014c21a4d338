"""Writes changes of the record as rows."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, fields, replace
from typing import Any, assert_never

from reconciler.ledger.codec import Body, checksum, encode, mended
from reconciler.model.change import (
    AddEvent,
    BeginIntent,
    Change,
    DropBuild,
    DropGroup,
    DropVM,
    EndIntent,
    PutBuild,
    PutGroup,
    PutSource,
    PutStore,
    PutSuspension,
    PutVM,
)
from reconciler.model.event import Event

EVENTS_KEPT = 10_000
"""Events that are kept, for people and for sinks that are unreachable for a while."""
INTENTS_KEPT = 1_000
"""Ended intents that are kept, to show what was being done."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A change with its JSON, so that memory and disk get exactly the same."""

    change: Change
    table: str
    key: str
    body: str | None
    """None: the row is deleted."""


def prepare(change: Change) -> Prepared:
    """Encode a change, before any transaction begins."""
    table, key, value = _place(change)
    if value is None:
        return Prepared(change, table, key, None)
    try:
        return Prepared(change, table, key, encode(value))
    except UnicodeError:
        value = mended(value)
        whole: Any = change
        (field,) = fields(whole)
        return Prepared(replace(whole, **{field.name: value}), table, key, encode(value))


def _place(change: Change) -> tuple[str, str, Body | None]:
    """The table, key and new value of the row that a change writes; None deletes it."""
    match change:
        case PutVM(vm):
            return "vms", vm.name, vm
        case PutGroup(group):
            return "groups", group.name, group
        case PutBuild(build):
            return "builds", build.key, build
        case PutSource() | PutSuspension() | PutStore():
            return _single(change)
        case DropVM() | DropGroup() | DropBuild():
            return _dropped(change)
        case AddEvent(event):
            return "events", "", event
        case BeginIntent(intent):
            return "intents", intent.id, intent
        case EndIntent(name):
            return "intents", name, None
        case _:
            assert_never(change)


def _single(change: PutSource | PutSuspension | PutStore) -> tuple[str, str, Body | None]:
    match change:
        case PutSource(source):
            return "singles", "source", source
        case PutSuspension(suspended):
            return "singles", "suspended", suspended
        case PutStore(images):
            return "singles", "store", images
        case _:
            assert_never(change)


def _dropped(change: DropVM | DropGroup | DropBuild) -> tuple[str, str, None]:
    match change:
        case DropVM(name):
            return "vms", name, None
        case DropGroup(group_name):
            return "groups", group_name, None
        case DropBuild(key):
            return "builds", key, None
        case _:
            assert_never(change)


def store(connection: sqlite3.Connection, prepared: Prepared, wall: float) -> Event | None:
    """Write one change inside a transaction; returns an event, now with its sequence."""
    match prepared.change:
        case AddEvent(event):
            return replace(event, sequence=_append(connection, prepared))
        case BeginIntent():
            _begin(connection, prepared)
        case EndIntent() as end:
            _end(connection, end, wall)
        case _:
            _put_or_drop(connection, prepared)
    return None


def _put_or_drop(connection: sqlite3.Connection, prepared: Prepared) -> None:
    table, key, body = prepared.table, prepared.key, prepared.body
    if body is None:
        connection.execute(f"DELETE FROM {table} WHERE key = ?", (key,))  # noqa: S608 - our own name
        return
    connection.execute(
        f"INSERT INTO {table} VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE"  # noqa: S608 - as above
        " SET body = excluded.body, checksum = excluded.checksum",
        (key, body, checksum(table, key, body.encode())),
    )


def _append(connection: sqlite3.Connection, prepared: Prepared) -> int:
    body = prepared.body or ""
    done = connection.execute(
        "INSERT INTO events (body, checksum) VALUES (?, ?)",
        (body, checksum("events", "", body.encode())),
    )
    return done.lastrowid or 0


def _begin(connection: sqlite3.Connection, prepared: Prepared) -> None:
    name, body = prepared.key, prepared.body or ""
    # A write whose outcome is unknown may be repeated, so beginning twice must equal beginning once.
    connection.execute(
        "INSERT INTO intents (id, body, checksum) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE"
        " SET body = excluded.body, checksum = excluded.checksum, ended_wall = NULL, outcome = NULL",
        (name, body, checksum("intents", name, body.encode())),
    )


def _end(connection: sqlite3.Connection, change: EndIntent, wall: float) -> None:
    outcome = change.outcome.encode("utf-8", "replace").decode()
    connection.execute(
        "UPDATE intents SET ended_wall = ?, outcome = ? WHERE id = ?", (wall, outcome, change.id)
    )


def trim(connection: sqlite3.Connection) -> None:
    """Delete the oldest events and ended intents, which bounds the file's size."""
    connection.execute(
        "DELETE FROM events WHERE sequence <= (SELECT max(sequence) FROM events) - ?",
        (EVENTS_KEPT,),
    )
    connection.execute(
        "DELETE FROM intents WHERE ended_wall IS NOT NULL"
        " AND sequence <= (SELECT max(sequence) FROM intents) - ?",
        (INTENTS_KEPT,),
    )
