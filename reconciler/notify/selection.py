"""Which events are news to a sink: filtered, one message a condition, and one when it is over.

event --> [severity, group] --> opens a condition --> firing, once within `repeat`
                           |--> ends one that was told --> resolved, whatever its severity
                           `--> neither --> notice

A function of the events alone, in their order: after a restart it is asked about all of them again
and comes to the same messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import get_args

from reconciler.model.actions import OperationKind
from reconciler.model.event import FAILED, Event, EventKind, Severity
from reconciler.notify.message import (
    LONGEST_LINE,
    SEVERITIES,
    Message,
    Status,
    for_so_long,
    id_of,
    plain,
)

OPENS: Mapping[EventKind, str] = {
    "generation-condemned": "update",
    "checks-condemned": "checks",
    "quarantined": "quarantine",
    "guest-crashed": "crash",
    "guest-not-ready": "readiness",
    "group-held": "held",
    "revision-rejected": "revision",
    "source-unreachable": "source",
    **{FAILED[kind]: "operation" for kind in get_args(OperationKind)},
    "candidate-failed": "operation",
    "build-layer-failed": "build",
    "build-kernel-failed": "build",
    "collect-failed": "collect",
}
ENDS: Mapping[EventKind, tuple[str, ...]] = {
    "rolled-back": ("update", "operation"),
    "generation-committed": ("update", "quarantine", "crash", "operation", "checks", "readiness"),
    "guest-ready": ("readiness",),
    "checks-accepted": ("checks",),
    "checks-withdrawn": ("checks",),
    "handed-over": ("operation",),
    "guest-recovered": ("crash", "operation"),
    "hold-lifted": ("held",),
    "revision-accepted": ("revision",),
    "source-reachable": ("source",),
    "revision-applied": ("build", "collect"),
    "vm-removed": ("update", "quarantine", "crash", "operation", "checks", "readiness"),
}
OF_THE_HOST = {"revision", "source", "build", "collect"}
"""Conditions that end for all of their subjects at once."""
HINTS = {
    "update": "`reconciler history {vm}` has the evidence; push a fix",
    "checks": "the guest serves on, by its former checks; `reconciler why {vm}`; push a fix",
    "quarantine": "`reconciler why {vm}`; `reconciler rollback {vm} --to N`, or push a fix",
    "readiness": "what its checks ask for may be elsewhere; `reconciler why {vm}`",
    "crash": "`reconciler logs {vm}` shows its last words",
    "held": "`reconciler status` names who failed; push a fix, or `reconciler retry VM`",
    "revision": "what was desired before stays; `reconciler validate` lists all problems",
    "source": "pushes do not arrive; `reconciler status` has the newest error",
    "operation": "it is tried again; `reconciler why {vm}`",
    "build": "`reconciler status` says which VMs wait for it",
    "collect": "look at the disk of state_dir",
}
MOST_OPEN = 10_000
"""Conditions remembered; the oldest is forgotten first, and then has no end to tell of."""

Key = tuple[str, str]


@dataclass(slots=True)
class Told:
    """A condition that the sink knows of."""

    first: Message
    last_wall: float


class Digest:
    """One sink's view. `take` is asked about each event once, in order."""

    def __init__(
        self, host: str, *, severity: Severity, groups: Iterable[str], repeat: float
    ) -> None:
        self._host = host
        self._wanted = SEVERITIES[SEVERITIES.index(severity) :]
        self._groups = frozenset(groups)
        self._repeat = repeat
        self._open: dict[Key, Told] = {}

    def take(self, event: Event) -> Message | None:
        """What the sink is to be told about this event, if anything."""
        if self._groups and (event.group or "") not in self._groups:
            return None
        ended = tuple(self._open.pop(key).first for key in self._ended_by(event))
        if ended:
            return self._resolved(event, ended)
        if event.severity not in self._wanted:
            return None
        condition = OPENS.get(event.kind)
        if condition is None:
            return self._message(event, "notice", event.kind)
        return self._opened(event, condition)

    def _opened(self, event: Event, condition: str) -> Message | None:
        key = (condition, subject_of(event, condition))
        told = self._open.get(key)
        if told is not None and event.wall - told.last_wall < self._repeat:
            return None
        message = self._message(event, "firing", condition)
        self._open[key] = Told(told.first if told else message, event.wall)
        if len(self._open) > MOST_OPEN:
            del self._open[next(iter(self._open))]
        return message

    def _ended_by(self, event: Event) -> list[Key]:
        mine, ended = event.vm or event.group or "", []
        for condition in ENDS.get(event.kind, ()):
            if condition in OF_THE_HOST:
                ended += [key for key in self._open if key[0] == condition]
            elif (condition, mine) in self._open:
                ended.append((condition, mine))
        return ended

    def _resolved(self, event: Event, ended: tuple[Message, ...]) -> Message:
        lasted = for_so_long(event.wall - min(message.wall for message in ended))
        words = f"over after {lasted}: {event.message}"
        if event.vm and event.generation and event.kind != "checks-accepted":
            words = f"{event.vm} serves generation {event.generation} again after {lasted}"
            words += f": {event.message}" if event.kind == "rolled-back" else ""
        message = self._message(event, "resolved", ended[0].condition)
        return replace(message, summary=plain(words), ends=ended)

    def _message(self, event: Event, status: Status, condition: str) -> Message:
        subject = subject_of(event, condition)
        hint = HINTS.get(condition, "") if status == "firing" else ""
        return Message(
            id=id_of(event, self._host),
            sequence=event.sequence,
            status=status,
            condition=condition,
            severity=event.severity,
            summary=plain(event.message),
            wall=event.wall,
            host=self._host,
            subject=subject,
            hint=hint.format(vm=event.vm or "VM"),
            vm=event.vm or "",
            group=event.group or "",
            generation=event.generation,
            revision=event.revision or "",
        )


def subject_of(event: Event, condition: str) -> str:
    """Events of builds name in their first words what was built; others carry whom they are about."""
    if condition == "build":
        return plain(event.message.partition(":")[0], LONGEST_LINE)
    return event.vm or event.group or ""
