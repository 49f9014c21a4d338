"""How far each reader of the events has come, beside the events themselves."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping

from reconciler.ledger.codec import checksum

TABLE = "cursors"


def read(connection: sqlite3.Connection) -> dict[str, int]:
    """By reader. One whose row is damaged is not there, and begins anew."""
    found = connection.execute(
        "SELECT CAST(key AS BLOB), CAST(body AS BLOB), checksum FROM cursors"
    )
    return {
        name: int(body)
        for name, body, crc in ((bytes(k).decode(errors="replace"), b, c) for k, b, c in found)
        if checksum(TABLE, name, body) == crc
    }


def settled(connection: sqlite3.Connection, names: Iterable[str]) -> dict[str, int]:
    """Where these readers go on; a new one begins after the newest event."""
    present = read(connection)
    newest = connection.execute("SELECT coalesce(max(sequence), 0) FROM events").fetchone()[0]
    # An older ledger that was put back counts from less: what is ahead of it would never be told.
    return {name: min(present.get(name, newest), newest) for name in names}


def replace(connection: sqlite3.Connection, wanted: Mapping[str, int]) -> None:
    """These readers and no others."""
    connection.execute("DELETE FROM cursors")
    for name, sequence in wanted.items():
        put(connection, name, sequence)


def put(connection: sqlite3.Connection, name: str, sequence: int) -> None:
    body = str(sequence)
    connection.execute(
        "INSERT INTO cursors VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE"
        " SET body = excluded.body, checksum = excluded.checksum",
        (name, body, checksum(TABLE, name, body.encode())),
    )
