"""The daemon's log: fields to the journal if it listens, else one line for each record on standard error."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconciler.safe_text import clean_lines, is_plain

JOURNAL = Path("/run/systemd/journal/socket")
JOURNAL_STREAM = "JOURNAL_STREAM"
"""Device and inode of the stream that systemd connected to the journal; systemd.exec(5)."""
MOST_DATAGRAM = 64 * 1024
LONGEST_VALUE = 8 * 1024
FOREIGN = ("reconciler.control",)
"""Our loggers whose records untrusted clients can cause."""
MOST_ALIKE, PERIOD = 5, 60.0
"""Records of one kind that pass within so many seconds, for clients and libraries."""
MOST_KINDS, LONGEST_KIND = 256, 200
PRIORITIES = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
    (logging.DEBUG, 7),
)
"""Priorities of syslog(3), for each level and above."""


def open_log(form: str, environ: Mapping[str, str] = os.environ) -> None:
    """Set up logging. `form`: logfmt or json; for the journal neither is needed, as it stores fields."""
    ours, others = _handler(form, environ), _handler(form, environ)
    ours.addFilter(Sparing(FOREIGN))
    for name, level in (("reconciler", logging.INFO), ("opentelemetry", logging.ERROR)):
        logger = logging.getLogger(name)
        logger.handlers[:] = [ours]
        logger.setLevel(level)
        logger.propagate = False
    # Records of libraries that have no handler.
    others.setLevel(logging.WARNING)
    others.addFilter(Sparing())
    logging.lastResort = others


def _handler(form: str, environ: Mapping[str, str]) -> logging.Handler:
    lines = logging.StreamHandler()
    lines.setFormatter(Lines(as_json=form == "json"))
    return Journal(JOURNAL, lines) if form != "json" and is_journal(environ) else lines


class Sparing(logging.Filter):
    """Passes at most a few records of one kind a minute; the next one has the number left out.

    A kind is a logger, a level and a message without its arguments. Only loggers whose names begin with
    one of `names` are limited; by default all are.
    """

    def __init__(self, names: tuple[str, ...] = ("",), most: int = MOST_ALIKE) -> None:
        super().__init__()
        self._names = names
        self._most = most
        self._kinds: dict[tuple[str, int, str], _Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to pass a record."""
        if not record.name.startswith(self._names):
            return True
        key = (record.name, record.levelno, str(record.msg)[:LONGEST_KIND])
        if key not in self._kinds and len(self._kinds) >= MOST_KINDS:
            key = ("", 0, "")
        kind = self._kinds.setdefault(key, _Kind(record.created))
        if not 0 <= record.created - kind.since < PERIOD:  # negative if the wall clock was set back
            kind.since, kind.passed = record.created, 0
        if kind.passed >= self._most:
            kind.left_out += 1
            return False
        kind.passed += 1
        if kind.left_out:
            record.fields = {**getattr(record, "fields", {}), "left_out": kind.left_out}
            kind.left_out = 0
        return True


@dataclass(slots=True)
class _Kind:
    since: float
    passed: int = 0
    left_out: int = 0


def is_journal(environ: Mapping[str, str]) -> bool:
    """Whether standard error is connected to the journal and was not redirected."""
    device, _, inode = environ.get(JOURNAL_STREAM, "").partition(":")
    try:
        stream = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(stream.st_dev), str(stream.st_ino))


def _fields_of(record: logging.LogRecord) -> dict[str, Any]:
    found = {k: v for k, v in getattr(record, "fields", {}).items() if v is not None}
    if record.exc_info:
        found["exception"] = logging.Formatter().formatException(record.exc_info)
    return found


class Lines(logging.Formatter):
    """Formats records as one line of logfmt or JSON: the message, then its fields."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """The line for a record."""
        fields: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "msg": record.getMessage(),
        } | _fields_of(record)
        if self._as_json:
            return json.dumps(fields, default=str)
        return " ".join(f"{key}={_quoted(str(value))}" for key, value in fields.items())


class Journal(logging.Handler):
    """Sends records to the journal with fields in capitals, so that `journalctl VM=web` finds them.

    What the journal does not accept goes to standard error, which is connected to it too.
    """

    def __init__(self, path: Path, otherwise: logging.Handler) -> None:
        super().__init__()
        self._path = str(path)
        self._otherwise = otherwise

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record; falls back to standard error."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as out:
                out.sendto(datagram(record), self._path)
        except OSError:
            with contextlib.suppress(Exception):
                self._otherwise.emit(record)


def datagram(record: logging.LogRecord) -> bytes:
    """A record in the journal's native protocol."""
    priority = next((to for level, to in PRIORITIES if record.levelno >= level), 7)
    fields = {
        "MESSAGE": record.getMessage(),
        "PRIORITY": priority,
        "SYSLOG_IDENTIFIER": "reconciler",
        "CODE_MODULE": record.name,
    }
    fields |= {_name(key): value for key, value in _fields_of(record).items()}
    return b"".join(_field(key, str(value)) for key, value in fields.items())[:MOST_DATAGRAM]


def _name(key: str) -> str:
    """A valid field name; leading underscores are reserved for the journal."""
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in key).upper().lstrip("_")


def _field(key: str, value: str) -> bytes:
    """A field with its length, so that no line of a value can be taken for another field."""
    raw = clean_lines(value).encode("utf-8", "replace")[:LONGEST_VALUE]
    return key.encode() + b"\n" + len(raw).to_bytes(8, "little") + raw + b"\n"


def _quoted(value: str) -> str:
    plain = value.isprintable() and is_plain(value) and not set(value) & set(' "=')
    return value if plain and value else json.dumps(value)
