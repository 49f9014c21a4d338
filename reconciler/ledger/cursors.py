"""The position of each reader in the events, stored beside the events themselves."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping

from reconciler.ledger.codec import checksum

TABLE = "cursors"


def read(connection: sqlite3.Connection) -> dict[str, int]:
    """Positions by reader. A damaged row is left out, so its reader starts after the newest event."""
    found = connection.execute(
        "SELECT CAST(key AS BLOB), CAST(body AS BLOB), checksum FROM cursors"
    )
    return {
        name: int(body)
        for name, body, crc in ((bytes(k).decode(errors="replace"), b, c) for k, b, c in found)
        if checksum(TABLE, name, body) == crc
    }


def settled(connection: sqlite3.Connection, names: Iterable[str]) -> dict[str, int]:
    """The positions at which these readers continue; a new one starts after the newest event."""
    present = read(connection)
    newest = connection.execute("SELECT coalesce(max(sequence), 0) FROM events").fetchone()[0]
    # A restored older ledger has lower sequences: a position beyond them would hide new events.
    return {name: min(present.get(name, newest), newest) for name in names}


def replace(connection: sqlite3.Connection, wanted: Mapping[str, int]) -> None:
    """Set the positions of these readers, and drop all others."""
    connection.execute("DELETE FROM cursors")
    for name, sequence in wanted.items():
        put(connection, name, sequence)


def put(connection: sqlite3.Connection, name: str, sequence: int) -> None:
    """Set the position of one reader."""
    body = str(sequence)
    connection.execute(
        "INSERT INTO cursors VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE"
        " SET body = excluded.body, checksum = excluded.checksum",
        (name, body, checksum(TABLE, name, body.encode())),
    )
