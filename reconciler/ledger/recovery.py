"""How to open a ledger that is absent, damaged, too new, or on a failing disk."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

from reconciler.durable import sync
from reconciler.errors import LedgerError, LedgerErrorKind, LedgerUnwritable
from reconciler.host.layout import LEDGER_SUFFIXES
from reconciler.ledger import schema
from reconciler.ledger.reading import Damaged

MAGIC = b"SQLite format 3\x00"

DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
FORM = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_FORMAT}
"""Our statements are fixed, so they fail like this only if the schema is damaged."""

FAILURES = (sqlite3.Error, UnicodeDecodeError)
"""What sqlite3 raises. UnicodeDecodeError: its own message quotes damaged bytes of the schema."""

Cause = tuple[LedgerErrorKind, str]
"""The kind of an error, and the hint."""
FULL: Cause = ("full", "free space in the state directory: writing resumes by itself")
IO: Cause = (
    "io",
    "check the disk and the kernel's log: writing resumes by itself when the disk answers",
)
READ_ONLY: Cause = (
    "read-only",
    "remount the state directory writable, and check its owner and mode",
)
CORRUPT: Cause = ("corrupt", "restart the daemon: it keeps the damaged file and adopts")
KINDS: Mapping[int, Cause] = {
    sqlite3.SQLITE_FULL: FULL,
    sqlite3.SQLITE_IOERR: IO,
    sqlite3.SQLITE_READONLY: READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: READ_ONLY,
    sqlite3.SQLITE_PERM: READ_ONLY,
    sqlite3.SQLITE_BUSY: ("locked", "end the other program that has the ledger open"),
    sqlite3.SQLITE_CORRUPT: CORRUPT,
    sqlite3.SQLITE_NOTADB: CORRUPT,
}
ERRNO_KINDS: Mapping[int, Cause] = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EFBIG: FULL,
    errno.EROFS: READ_ONLY,
    errno.EACCES: READ_ONLY,
    errno.EPERM: READ_ONLY,
}


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; SQLITE_ERROR if Python has none."""
    code = getattr(error, "sqlite_errorcode", None)
    return sqlite3.SQLITE_ERROR if code is None else int(code) & 0xFF


def unwritable(error: Exception, path: Path) -> LedgerUnwritable:
    """The error for the engine: why nothing can be written at present, with a kind and a hint."""
    cause = CORRUPT
    if isinstance(error, sqlite3.Error):
        cause = KINDS.get(primary_code(error), ("ledger-unwritable", "see the daemon's log"))
    elif isinstance(error, OSError):
        cause = ERRNO_KINDS.get(error.errno or 0, IO)
    kind, hint = cause
    return LedgerUnwritable(f"{path}: cannot be written: {error}", kind=kind, hint=hint)


def examine(path: Path, migrations: Sequence[schema.Migration]) -> int:
    """The schema version of an existing ledger, read without changing the file.

    Raises Damaged, LedgerTooNew, sqlite3.Error or OSError.
    """
    with path.open("rb") as file:
        header = file.read(100)
    if not header:
        raise Damaged("the file is empty")
    if not header.startswith(MAGIC):
        raise Damaged("the file is not a sqlite database")
    # With other format versions in the header sqlite treats the file as read-only.
    if len(header) < 100 or {header[18], header[19]} - {1, 2}:  # noqa: PLR2004 - sqlite's numbers
        raise Damaged("the file's header is invalid")
    peek = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        peek.text_factory = bytes
        found = schema.version(peek)
    finally:
        peek.close()
    if found is None:
        raise Damaged("it has no readable version of a ledger")
    schema.refuse_newer(found, len(migrations), path)
    return found


def inspect(connection: sqlite3.Connection, applied: Sequence[schema.Migration]) -> None:
    """Raise Damaged if the file's structure or schema is damaged."""
    for (line,) in connection.execute("PRAGMA integrity_check(1)"):
        if line != b"ok":
            raise Damaged(bytes(line).decode(errors="replace").replace("\n", " "))
    if absent := schema.missing(connection, applied):
        raise Damaged(f"its schema is damaged: {', '.join(absent)}")


def migrate(
    connection: sqlite3.Connection, found: int, migrations: Sequence[schema.Migration]
) -> None:
    """Migrate an intact ledger to the newest version.

    A step that fails is a bug of ours and no damage, so it raises LedgerError: the ledger is kept in use.
    """
    try:
        schema.migrate(connection, found, migrations)
    except sqlite3.Error as error:
        if primary_code(error) not in FORM:
            raise
        raise LedgerError(
            f"the ledger cannot be migrated from version {found} to {len(migrations)}: {error}",
            hint="install the previous version again: the failed step was rolled back",
        ) from error


def is_damage(error: Exception) -> bool:
    """Whether an error means damaged content, and not a disk that fails at present."""
    if isinstance(error, sqlite3.Error):
        return primary_code(error) in DAMAGE | FORM or _is_cut_off(error)
    return isinstance(error, (Damaged, UnicodeDecodeError))


def _is_cut_off(error: sqlite3.Error) -> bool:
    """Whether the file is shorter than its header says; newer SQLite reports this as an I/O error."""
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_IOERR_SHORT_READ


def begin(path: Path, migrations: Sequence[schema.Migration]) -> Path | None:
    """Create an empty ledger at `path`; returns the path to which an older one was moved, if there was one.

    It is completed under another name and then renamed, so that no crash leaves a partial one.
    """
    fresh = path.with_name(f"{path.name}.new")
    for suffix in (*LEDGER_SUFFIXES, "-journal"):
        fresh.with_name(fresh.name + suffix).unlink(missing_ok=True)
    # The ledger contains consoles and errors, which other users of this host must not read.
    os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    schema.create(fresh, migrations)
    aside = _move_aside(path)
    fresh.rename(path)
    sync(path.parent)
    return aside


def _move_aside(path: Path) -> Path | None:
    """Rename a ledger together with its log: sqlite would replay a log left behind into the next one."""
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
