"""A message to a sink: one piece of news, safe to display, and identical at every attempt."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from reconciler.model.event import Event, Severity
from reconciler.now import in_utc
from reconciler.safe_text import SEQUENCES, clean

Status = Literal["firing", "resolved", "notice"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "error")

LONGEST_TEXT = 2000
LONGEST_LINE = 200
MINUTE, HOUR, DAY = 60, 3600, 86_400


@dataclass(frozen=True, slots=True)
class Message:
    """One notification. `id` stays the same over attempts and restarts, so receivers can drop duplicates."""

    id: str
    sequence: int
    """Of the event; messages of a sink are in ascending order."""
    status: Status
    condition: str
    """What is wrong, as one word; for a notice the kind of event."""
    severity: Severity
    summary: str
    wall: float
    host: str
    subject: str = ""
    """What the condition is about: a VM, a group, an image, or empty for the host."""
    hint: str = ""
    vm: str = ""
    group: str = ""
    generation: int | None = None
    revision: str = ""
    ends: tuple[Message, ...] = ()
    """For a resolved message: the first messages of the conditions that ended."""


def id_of(event: Event, host: str) -> str:
    """The id of an event's message, 32 hex digits."""
    return identifier(host, event.sequence, event.wall, event.kind, event.message)


def identifier(host: str, sequence: int, wall: float, kind: str, message: str) -> str:
    """A message id. Unique even after a lost ledger, whose sequence starts at 1 again."""
    text = f"{host}\0{sequence}\0{wall!r}\0{kind}\0{message}"
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]


def plain(text: str, longest: int = LONGEST_TEXT) -> str:
    """One line without control sequences, cut to a length: terminals may show it."""
    line = clean(" ".join(SEQUENCES.sub("", text[: 4 * longest]).split()))
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def headline(message: Message) -> str:
    """One line: how bad, where, what."""
    mark = "resolved" if message.status == "resolved" else message.severity
    return plain(f"[{mark}] {message.host}: {message.summary}", LONGEST_LINE * 4)


def moment(wall: float) -> str:
    """A unix time as ISO 8601 in UTC, with milliseconds."""
    return in_utc(wall).isoformat(timespec="milliseconds")


def approximate_duration(seconds: float) -> str:
    """Seconds as `90 s`, `3 min`, `5 h` or `4 days`."""
    whole = max(0, round(seconds))
    if whole < 2 * MINUTE:
        return f"{whole} s"
    if whole < 2 * HOUR:
        return f"{round(whole / MINUTE)} min"
    if whole < 2 * DAY:
        return f"{round(whole / HOUR)} h"
    return f"{round(whole / DAY)} days"
