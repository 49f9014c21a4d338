"""The tables of the ledger, and the migrations from older versions."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from reconciler.errors import LedgerTooNew
from reconciler.ledger.codec import checksum

APPLICATION_ID = 0x6D76726C
"""`mvrl` in the file's header: identifies a ledger among sqlite databases."""

BUSY_SECONDS = 5.0
"""How long a write waits while another process, such as a sqlite3 shell, locks the file."""
LOG_BYTES = 4 * 1024 * 1024
"""Size to which the write-ahead log is truncated after a burst."""

Migration = Callable[[sqlite3.Connection], None]
Connect = Callable[[Path], sqlite3.Connection]


def _tables(connection: sqlite3.Connection) -> None:
    """Version 1. The form of `meta` must never change: by it every version recognises every other."""
    connection.execute(
        "CREATE TABLE meta (key TEXT PRIMARY KEY NOT NULL, body TEXT NOT NULL, checksum INTEGER NOT NULL)"
    )
    for table in ("vms", "groups", "builds", "singles"):
        connection.execute(
            f"CREATE TABLE {table} "
            "(key TEXT PRIMARY KEY NOT NULL, body TEXT NOT NULL, checksum INTEGER NOT NULL)"
        )
    connection.execute(
        # AUTOINCREMENT: a sequence is never used again, even if the newest events are deleted.
        "CREATE TABLE events (sequence INTEGER PRIMARY KEY AUTOINCREMENT,"
        " body TEXT NOT NULL, checksum INTEGER NOT NULL)"
    )
    connection.execute(
        "CREATE TABLE intents (sequence INTEGER PRIMARY KEY AUTOINCREMENT,"
        " id TEXT UNIQUE NOT NULL, body TEXT NOT NULL, checksum INTEGER NOT NULL,"
        " ended_wall REAL, outcome TEXT)"
    )


def _cursors(connection: sqlite3.Connection) -> None:
    """Version 2: the position of each notification sink in the events."""
    connection.execute(
        "CREATE TABLE cursors "
        "(key TEXT PRIMARY KEY NOT NULL, body TEXT NOT NULL, checksum INTEGER NOT NULL)"
    )


def _pending_transfer(connection: sqlite3.Connection) -> None:
    """Version 3: a VM's field `taking` is called `pending_transfer`. A damaged row stays for recovery to find."""
    rows = connection.execute("SELECT key, CAST(body AS BLOB), checksum FROM vms").fetchall()
    for key, body, written in rows:
        name = bytes(key).decode(errors="replace") if isinstance(key, bytes) else key
        if checksum("vms", name, body) != written:
            continue
        (record,) = json.loads(body)
        if "taking" in record:
            record["pending_transfer"] = record.pop("taking")
            text = json.dumps([record], ensure_ascii=False, separators=(",", ":"))
            connection.execute(
                "UPDATE vms SET body = ?, checksum = ? WHERE key = ?",
                (text, checksum("vms", name, text.encode()), name),
            )


MIGRATIONS: tuple[Migration, ...] = (_tables, _cursors, _pending_transfer)
"""The function at index n turns version n into version n + 1. Only ever append."""


def connect(path: Path) -> sqlite3.Connection:
    """A connection to an existing ledger for one writer, with explicit transactions. Raises sqlite3.Error."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,  # opened in the caller's thread, then used only in the writer's
    )
    # As bytes: damaged text must fail its checksum and not the decoder.
    connection.text_factory = bytes
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # With a write-ahead log only FULL makes a commit survive a crash of the host.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
    except BaseException:
        connection.close()
        raise
    return connection


def version(connection: sqlite3.Connection) -> int | None:
    """The schema version; None if the file is not a ledger, or its version is damaged."""
    if connection.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,):
        return None
    row = connection.execute(
        "SELECT CAST(body AS BLOB), checksum FROM meta WHERE key = 'schema_version'"
    ).fetchone()
    if row is None or checksum("meta", "schema_version", row[0]) != row[1]:
        return None
    return int(row[0])


def refuse_newer(found: int, known: int, path: Path) -> None:
    """Raise LedgerTooNew if a newer version wrote the ledger."""
    if found > known:
        raise LedgerTooNew(
            f"{path} has schema version {found}; this version of reconciler knows {known}",
            hint="install the newer version again; the file was not changed",
        )


def migrate(
    connection: sqlite3.Connection, found: int, migrations: Sequence[Migration] = MIGRATIONS
) -> None:
    """Migrate a ledger from version `found` to the newest, one transaction for each step."""
    for number, step in enumerate(migrations[found:], start=found + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            step(connection)
            text = str(number)
            connection.execute(
                "INSERT OR REPLACE INTO meta VALUES ('schema_version', ?, ?)",
                (text, checksum("meta", "schema_version", text.encode())),
            )
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def create(path: Path, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Write an empty ledger, complete when this returns; the caller renames it into place."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = EXTRA")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        migrate(connection, 0, migrations)
    finally:
        connection.close()


def missing(connection: sqlite3.Connection, migrations: Sequence[Migration]) -> list[str]:
    """Names of tables and indexes that differ from what these migrations create."""
    statement = "SELECT name, CAST(sql AS BLOB) FROM sqlite_master"
    fresh = sqlite3.connect(":memory:", isolation_level=None)
    try:
        migrate(fresh, 0, migrations)
        wanted = fresh.execute(statement).fetchall()
    finally:
        fresh.close()
    found = {
        (bytes(name).decode(errors="replace"), sql) for name, sql in connection.execute(statement)
    }
    return [name for name, sql in wanted if (name, sql) not in found]
