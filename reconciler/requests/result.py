"""The answer to a request: changes of the record, and a text for the person."""

from __future__ import annotations

from dataclasses import dataclass, replace

from reconciler.model.change import AddEvent, Change
from reconciler.model.event import Event, EventKind
from reconciler.model.names import GroupName
from reconciler.model.record import VMRecord
from reconciler.now import Now

SHORTEST_PREFIX = 7
"""Digits of a revision that a person must give at least, as in git's abbreviations."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An accepted request."""

    changes: tuple[Change, ...]
    words: str
    """What was done, as a text."""


def done(
    changes: list[Change], kind: EventKind, words: str, now: Now, vm: VMRecord | None = None,
    group: GroupName | None = None,
) -> Answer:  # fmt: skip
    """The answer with these changes and an event that reports them."""
    of = group or ((vm.group or None) if vm else None)
    event = Event(kind, words, now.wall, vm=vm.name if vm else None, group=of)
    return Answer((*changes, AddEvent(event)), words)


def signed(answer: Answer, by: str) -> Answer:
    """The same answer, with its origin in the event: CLI, page or user."""
    if not by:
        return answer
    changes = tuple(
        AddEvent(replace(change.event, message=f"{change.event.message} (by {by})"))
        if isinstance(change, AddEvent)
        else change
        for change in answer.changes
    )
    return Answer(changes, answer.words)
