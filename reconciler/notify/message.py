"""What a sink is told: one piece of news, safe to show, the same at every attempt."""

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
    """`id` is the same at every attempt and after every restart: by it a receiver tells twins."""

    id: str
    sequence: int
    """Of the event that it is about; messages of a sink ascend by it."""
    status: Status
    condition: str
    """What is wrong, as one word; for a notice the event's kind."""
    severity: Severity
    summary: str
    wall: float
    host: str
    subject: str = ""
    """Whom the condition is about: a VM, a group, what is built, or the host."""
    hint: str = ""
    vm: str = ""
    group: str = ""
    generation: int | None = None
    revision: str = ""
    ends: tuple[Message, ...] = ()
    """What was told first of the conditions that this message says are over."""


def id_of(event: Event, host: str) -> str:
    """Also over a lost ledger, which counts from 1 again."""
    return identifier(host, event.sequence, event.wall, event.kind, event.message)


def identifier(host: str, sequence: int, wall: float, kind: str, message: str) -> str:
    text = f"{host}\0{sequence}\0{wall!r}\0{kind}\0{message}"
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]


def plain(text: str, longest: int = LONGEST_TEXT) -> str:
    """One line that drives nobody's screen, cut to a length."""
    line = clean(" ".join(SEQUENCES.sub("", text[: 4 * longest]).split()))
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def headline(message: Message) -> str:
    """One line: how bad, where, what."""
    mark = "resolved" if message.status == "resolved" else message.severity
    return plain(f"[{mark}] {message.host}: {message.summary}", LONGEST_LINE * 4)


def moment(wall: float) -> str:
    return in_utc(wall).isoformat(timespec="milliseconds")


def for_so_long(seconds: float) -> str:
    whole = max(0, round(seconds))
    if whole < 2 * MINUTE:
        return f"{whole} s"
    if whole < 2 * HOUR:
        return f"{round(whole / MINUTE)} min"
    if whole < 2 * DAY:
        return f"{round(whole / HOUR)} h"
    return f"{round(whole / DAY)} days"
