"""The ledger in sqlite: one writer, one transaction for each write, and memory never ahead of the disk."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from reconciler.clock import Clock
from reconciler.errors import LedgerUnwritable
from reconciler.ledger import cursors, reading, recovery, rows, schema
from reconciler.model.change import Change, apply
from reconciler.model.event import Event
from reconciler.model.record import Intent, Record

Subscriber = Callable[[Event], None]
T = TypeVar("T")


MOVED_HINT = "put it back, or restart the daemon, which then adopts the guests"
LOG = "-wal"
"""Suffix of sqlite's write-ahead log, which holds the newest writes."""


class SqliteLedger:
    """The durable record, events and intents. Make it with `open_ledger`; end it with `close`.

    After any failure the connection is discarded, and the record is read again before the next write:
    after a failed sync it is unknown what reached the disk.
    """

    def __init__(
        self, path: Path, clock: Clock, connection: sqlite3.Connection, connect: schema.Connect
    ) -> None:
        self._path = path
        self._clock = clock
        self._connect = connect
        self._record = reading.record(connection)
        found = path.stat()
        self._place = found.st_dev, found.st_ino
        self._log_place = _log_place(path)
        # From here on only the writer's thread touches the connection.
        self._connection: sqlite3.Connection | None = connection
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        self._subscribers: list[Subscriber] = []

    def record(self) -> Record:
        """The current record, from memory."""
        return self._record

    async def write(self, changes: Iterable[Change]) -> Record:
        """Apply all changes or none; durable when it returns. Returns the new record. Raises LedgerUnwritable.

        A cancelled caller does not learn the outcome; `record` then shows it.
        """
        batch = tuple(changes)
        if not batch:
            return self._record
        loop = asyncio.get_running_loop()
        wall = self._clock.now().wall
        return await loop.run_in_executor(self._writer, self._commit, batch, wall, loop)

    async def events(self, after: int, limit: int) -> list[Event]:
        """Events with a sequence greater than `after`, oldest first. Raises LedgerUnwritable."""
        return await self._ask(lambda connection: reading.events(connection, after, limit))

    async def latest_events(self, limit: int) -> list[Event]:
        """The newest events, oldest first. Raises LedgerUnwritable."""
        return await self._ask(lambda connection: reading.latest_events(connection, limit))

    async def intents_open(self) -> list[Intent]:
        """Intents without an end, oldest first. Raises LedgerUnwritable."""
        return await self._ask(reading.open_intents)

    async def open_cursors(self, names: Iterable[str]) -> dict[str, int]:
        """The sequence up to which each reader has its events; a new reader starts after the newest.

        Positions of all other readers are dropped. Raises LedgerUnwritable.
        """
        present = await self._ask(cursors.read)
        wanted = tuple(names)
        settled = await self._ask(lambda c: cursors.settled(c, wanted))
        if settled != present:
            await self._ask(_in_transaction(lambda c: cursors.replace(c, settled)))
        return settled

    async def advance(self, name: str, sequence: int) -> None:
        """Record that a reader has all events up to this one. Raises LedgerUnwritable."""
        await self._ask(_in_transaction(lambda c: cursors.put(c, name, sequence)))

    async def check(self) -> None:
        """Raise LedgerUnwritable if the file was moved or another process keeps it locked."""
        await self._ask(self._check_file)

    def _check_file(self, connection: sqlite3.Connection) -> None:
        self._refuse_moved()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        """Call back with each new event once it is durable, in the event loop of the writer.

        Returns a function that ends the subscription.
        """
        self._subscribers.append(callback)

        def unsubscribe() -> None:
            with contextlib.suppress(ValueError):
                self._subscribers.remove(callback)

        return unsubscribe

    async def close(self) -> None:
        """Wait for the write in progress, then close the file. May be called twice."""
        await asyncio.to_thread(self._shut)

    def _shut(self) -> None:
        self._writer.shutdown(wait=True)
        self._discard()

    async def _ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, self._read, question)

    # The methods below run in the writer's thread.

    def _commit(
        self, batch: Sequence[Change], wall: float, loop: asyncio.AbstractEventLoop
    ) -> Record:
        prepared = [rows.prepare(change) for change in batch]
        connection = self._usable()
        try:
            self._refuse_moved()
            connection.execute("BEGIN IMMEDIATE")
            stored = [rows.store(connection, each, wall) for each in prepared]
            # In the same transaction, so that the file never exceeds its bound.
            rows.trim(connection)
            connection.execute("COMMIT")
        except (*recovery.FAILURES, OSError) as error:
            self._discard()
            raise recovery.unwritable(error, self._path) from error
        except BaseException:
            self._discard()
            raise
        self._record = apply(self._record, tuple(each.change for each in prepared))
        if events := [event for event in stored if event is not None]:
            with contextlib.suppress(RuntimeError):  # the loop ended while the write was under way
                loop.call_soon_threadsafe(self._notify, events)
        return self._record

    def _read(self, question: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._usable()
        try:
            return question(connection)
        except LedgerUnwritable:
            self._discard()
            raise
        except (*recovery.FAILURES, OSError) as error:
            self._discard()
            raise recovery.unwritable(error, self._path) from error

    def _usable(self) -> sqlite3.Connection:
        """The connection; after a failure a new one, with the record as it is on disk."""
        if self._connection is not None:
            return self._connection
        try:
            self._refuse_moved()
            connection = self._connect(self._path)
            try:
                self._record = reading.record(connection)
            except BaseException:
                connection.close()
                raise
        except (*recovery.FAILURES, OSError, reading.Damaged) as error:
            raise recovery.unwritable(error, self._path) from error
        self._connection, self._log_place = connection, _log_place(self._path)
        return connection

    def _refuse_moved(self) -> None:
        """Raise LedgerUnwritable if the file was moved or replaced: sqlite would keep writing to the old inode."""
        try:
            found = self._path.stat()
        except (FileNotFoundError, NotADirectoryError):
            gone = "its folder" if not self._path.parent.exists() else "it"
            raise LedgerUnwritable(
                f"{self._path}: {gone} was moved or deleted while the daemon runs",
                kind="moved",
                hint=MOVED_HINT,
            ) from None
        if (found.st_dev, found.st_ino) != self._place:
            raise LedgerUnwritable(
                f"{self._path} is not the file that was opened", kind="moved", hint=MOVED_HINT
            )
        if self._connection is not None and _log_place(self._path) != self._log_place:
            # Closing the connection copies what it holds of the log into the ledger itself.
            raise LedgerUnwritable(
                f"{self._path}{LOG} was deleted or replaced while the daemon runs",
                kind="moved",
                hint="nothing: what it held is kept, and it is made again at the next write",
            )

    def _discard(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _notify(self, events: Sequence[Event]) -> None:
        for callback in tuple(self._subscribers):
            for event in events:
                callback(event)


def _log_place(ledger: Path) -> tuple[int, int] | None:
    """Device and inode of the write-ahead log, which a connection creates with its first read."""
    try:
        found = ledger.with_name(ledger.name + LOG).stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _in_transaction(work: Callable[[sqlite3.Connection], T]) -> Callable[[sqlite3.Connection], T]:
    """The work inside a transaction. After a failure no rollback is needed: the connection is discarded."""

    def whole(connection: sqlite3.Connection) -> T:
        connection.execute("BEGIN IMMEDIATE")
        result = work(connection)
        connection.execute("COMMIT")
        return result

    return whole


@dataclass(frozen=True, slots=True)
class Opened:
    """An open ledger."""

    ledger: SqliteLedger
    recovered: str | None = None
    """What happened to the previous ledger, for an event; None if it was intact."""


def open_ledger(
    path: Path,
    clock: Clock,
    *,
    migrations: Sequence[schema.Migration] = schema.MIGRATIONS,
    connect: schema.Connect = schema.connect,
) -> Opened:
    """Open the ledger, or create one.

    A damaged one is kept under another name; `recovered` then says so, and the guests must be adopted.
    Raises LedgerTooNew, LedgerUnwritable, or LedgerError for a record in an unknown form.
    """
    try:
        reason = ""
        if path.exists():
            try:
                return Opened(_open_sound(path, clock, migrations, connect))
            except (*recovery.FAILURES, reading.Damaged) as error:
                if not recovery.is_damage(error):
                    raise
                reason = str(error)
        aside = recovery.begin(path, migrations)
        ledger = _open_sound(path, clock, migrations, connect)
    except (*recovery.FAILURES, OSError) as error:
        raise recovery.unwritable(error, path) from error
    if aside is None:
        return Opened(ledger)
    what = f"was damaged ({reason})" if reason else "was missing, and only its log was there"
    return Opened(
        ledger,
        f"the ledger {path} {what}; it is kept as {aside.name} and a new one was begun:"
        " running guests are adopted, and what was blocked or suspended is forgotten",
    )


def _open_sound(
    path: Path, clock: Clock, migrations: Sequence[schema.Migration], connect: schema.Connect
) -> SqliteLedger:
    found = recovery.examine(path, migrations)
    connection = connect(path)
    try:
        recovery.inspect(connection, migrations[:found])
        recovery.migrate(connection, found, migrations)
        return SqliteLedger(path, clock, connection, connect)
    except BaseException:
        connection.close()
        raise
