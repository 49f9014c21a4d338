"""What to make of a ledger that is absent, damaged, too new, or on a bad disk."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from reconciler.durable import sync
from reconciler.errors import LedgerError, LedgerUnwritable
from reconciler.host.layout import LEDGER_SUFFIXES
from reconciler.ledger import schema
from reconciler.ledger.reading import Damaged

MAGIC = b"SQLite format 3\x00"

DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
FORM = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_FORMAT}
"""Our own fixed statements fail like this only where the schema is not what we wrote."""

FAILURES = (sqlite3.Error, UnicodeDecodeError)
"""What sqlite3 raises: it trips over its own message if that quotes damaged bytes of the schema."""

FULL = ("full", "free space in the state directory: writing resumes by itself")
IO = ("io", "check the disk and the kernel's log: writing resumes by itself when the disk answers")
READ_ONLY = ("read-only", "remount the state directory writable, and check its owner and mode")
KINDS = {
    sqlite3.SQLITE_FULL: FULL,
    sqlite3.SQLITE_IOERR: IO,
    sqlite3.SQLITE_READONLY: READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: READ_ONLY,
    sqlite3.SQLITE_PERM: READ_ONLY,
    sqlite3.SQLITE_BUSY: ("locked", "end the other program that has the ledger open"),
    sqlite3.SQLITE_CORRUPT: ("corrupt", "restart the daemon: it keeps the damaged file and adopts"),
    sqlite3.SQLITE_NOTADB: ("corrupt", "restart the daemon: it keeps the damaged file and adopts"),
}
ERRNO_KINDS = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EFBIG: FULL,
    errno.EROFS: READ_ONLY,
    errno.EACCES: READ_ONLY,
    errno.EPERM: READ_ONLY,
}


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's result code without its extension; SQLITE_ERROR where Python knows none."""
    code = getattr(error, "sqlite_errorcode", None)
    return sqlite3.SQLITE_ERROR if code is None else int(code) & 0xFF


def unwritable(error: Exception, path: Path) -> LedgerUnwritable:
    """The error for the engine: why nothing can be remembered now, and what helps."""
    if isinstance(error, sqlite3.Error):
        kind, hint = KINDS.get(primary_code(error), ("ledger-unwritable", "see the daemon's log"))
    elif isinstance(error, OSError):
        kind, hint = ERRNO_KINDS.get(error.errno or 0, IO)
    else:
        kind, hint = "corrupt", "restart the daemon: it keeps the damaged file and adopts"
    return LedgerUnwritable(f"{path}: cannot remember anything: {error}", kind=kind, hint=hint)


def examine(path: Path, migrations: Sequence[schema.Migration]) -> int:
    """The version of an existing ledger, found without changing it.

    Raises Damaged, LedgerTooNew, sqlite3.Error or OSError.
    """
    with path.open("rb") as file:
        header = file.read(100)
    if not header:
        raise Damaged("the file is empty")
    if not header.startswith(MAGIC):
        raise Damaged("the file is no sqlite database")
    # Other format versions make sqlite treat the file as read-only, for ever.
    if len(header) < 100 or {header[18], header[19]} - {1, 2}:  # noqa: PLR2004 - sqlite's numbers
        raise Damaged("the file's header makes no sense")
    peek = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        peek.text_factory = bytes
        found = schema.version(peek)
    finally:
        peek.close()
    if found is None:
        raise Damaged("it does not say that it is a ledger, or which version")
    schema.refuse_newer(found, len(migrations), path)
    return found


def inspect(connection: sqlite3.Connection, applied: Sequence[schema.Migration]) -> None:
    """Raise Damaged if the file's structure is not sound."""
    for (line,) in connection.execute("PRAGMA integrity_check(1)"):
        if line != b"ok":
            raise Damaged(bytes(line).decode(errors="replace").replace("\n", " "))
    if absent := schema.missing(connection, applied):
        raise Damaged(f"its schema is damaged: {', '.join(absent)}")


def migrate(
    connection: sqlite3.Connection, found: int, migrations: Sequence[schema.Migration]
) -> None:
    """Bring a sound ledger to the newest version. A step with a bug is no damage to the ledger."""
    try:
        schema.migrate(connection, found, migrations)
    except sqlite3.Error as error:
        if primary_code(error) not in FORM:
            raise
        raise LedgerError(
            f"the ledger of version {found} cannot be brought to {len(migrations)}: {error}",
            hint="install the version that wrote it again: the failed step was undone",
        ) from error


def is_damage(error: Exception) -> bool:
    """Whether what was read is wrong, as opposed to a disk that cannot be read or written now."""
    if isinstance(error, sqlite3.Error):
        return primary_code(error) in DAMAGE | FORM or _is_cut_off(error)
    return isinstance(error, (Damaged, UnicodeDecodeError))


def _is_cut_off(error: sqlite3.Error) -> bool:
    """Newer versions of SQLite call a file that is shorter than its header says an I/O error."""
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_IOERR_SHORT_READ


def begin(path: Path, migrations: Sequence[schema.Migration]) -> Path | None:
    """Put a fresh, empty ledger at `path`; returns where an older one was moved, if there was any.

    The fresh one is made whole under another name first, so that no crash leaves half of one.
    """
    fresh = path.with_name(f"{path.name}.new")
    for suffix in (*LEDGER_SUFFIXES, "-journal"):
        fresh.with_name(fresh.name + suffix).unlink(missing_ok=True)
    # Consoles and errors may hold what not everybody on this host should read.
    os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    schema.create(fresh, migrations)
    aside = _move_aside(path)
    fresh.rename(path)
    sync(path.parent)
    return aside


def _move_aside(path: Path) -> Path | None:
    """Rename a ledger with its log: a log left behind would be replayed into the next ledger."""
    present = [s for s in LEDGER_SUFFIXES if path.with_name(path.name + s).exists()]
    if not present:
        return None
    number = 1
    while any(path.with_name(f"{path.name}.corrupt-{number}{s}").exists() for s in LEDGER_SUFFIXES):
        number += 1
    aside = path.with_name(f"{path.name}.corrupt-{number}")
    for suffix in present:
        path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside
