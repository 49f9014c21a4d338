"""Which events become messages of a sink: filtered, one for each condition, and one when it ends.

event --> [severity, group] --> opens a condition --> firing, once within `repeat`
                           |--> ends a known one  --> resolved, whatever its severity
                           `--> neither           --> notice

A function of the events and their order alone: after a restart it reads all of them again, and arrives
at the same messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import get_args

from reconciler.model.actions import OperationKind
from reconciler.model.event import FAILED, Event, EventKind, Severity
from reconciler.model.trouble import LOOK_UP
from reconciler.notify.message import (
    LONGEST_LINE,
    SEVERITIES,
    Message,
    Status,
    approximate_duration,
    id_of,
    plain,
)

OPENS: Mapping[EventKind, str] = {
    "generation-condemned": "update",
    "checks-condemned": "checks",
    "quarantined": "quarantine",
    "guest-crashed": "crash",
    "guest-not-ready": "readiness",
    "block-damaged": "damage",
    "group-held": "held",
    "revision-rejected": "revision",
    "source-unreachable": "source",
    **{FAILED[kind]: "operation" for kind in get_args(OperationKind)},
    "candidate-failed": "operation",
    "build-layer-failed": "build",
    "build-kernel-failed": "build",
    "collect-failed": "collect",
    "look-up-failed": "lookup",
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
    "damage-checked": ("damage",),
    "revision-applied": ("build", "collect"),
    "tag-looked-up": ("lookup",),
    "vm-removed": ("update", "quarantine", "crash", "operation", "checks", "readiness", "damage"),
}
OF_THE_HOST = {"revision", "source", "build", "collect"}
"""Conditions that end for all their subjects at once."""
SAY_THEMSELVES = {"checks-accepted", "damage-checked"}
"""Ends whose own words are the news, also where they name the generation that serves."""
HINTS = {
    "update": "`reconciler history {vm}` has the evidence; push a fix",
    "checks": "the guest keeps serving with its former checks; `reconciler why {vm}`; push a fix",
    "quarantine": "`reconciler why {vm}`; `reconciler rollback {vm} --to N`, or push a fix",
    "readiness": "its checks may depend on something else; `reconciler why {vm}`",
    "crash": "`reconciler logs {vm}` shows the end of its console",
    "damage": "`reconciler events` says what reading its images again finds",
    "held": "`reconciler status` names the VM that failed; push a fix, or `reconciler retry VM`",
    "revision": "the revision before stays in force; `reconciler validate` lists all problems",
    "source": "pushes do not arrive; `reconciler status` has the newest error",
    "operation": "the daemon retries it; `reconciler why {vm}`",
    "build": "`reconciler status` says which VMs wait for it",
    "collect": "check the disk of state_dir",
    "lookup": "what the tag meant stays in use; `reconciler images ls` has the newest error",
}
MOST_OPEN = 10_000
"""Open conditions that are remembered. The oldest is dropped first; its end is then not reported."""

Key = tuple[str, str]


@dataclass(slots=True)
class OpenCondition:
    """A condition that was reported to the sink."""

    first: Message
    last_wall: float


class Digest:
    """Selects messages for one sink. Call `take` once for each event, in order."""

    def __init__(
        self, host: str, *, severity: Severity, groups: Iterable[str], repeat: float
    ) -> None:
        self._host = host
        self._wanted = SEVERITIES[SEVERITIES.index(severity) :]
        self._groups = frozenset(groups)
        self._repeat = repeat
        self._open: dict[Key, OpenCondition] = {}

    def take(self, event: Event) -> Message | None:
        """The message for an event, or None if it is no news to this sink."""
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
        known = self._open.get(key)
        if known is not None and event.wall - known.last_wall < self._repeat:
            return None
        message = self._message(event, "firing", condition)
        self._open[key] = OpenCondition(known.first if known else message, event.wall)
        if len(self._open) > MOST_OPEN:
            del self._open[next(iter(self._open))]
        return message

    def _ended_by(self, event: Event) -> list[Key]:
        ended: list[Key] = []
        for condition in ENDS.get(event.kind, ()):
            key = condition, subject_of(event, condition)
            if condition in OF_THE_HOST:
                ended += [one for one in self._open if one[0] == condition]
            elif key in self._open:
                ended.append(key)
        return ended

    def _resolved(self, event: Event, ended: tuple[Message, ...]) -> Message:
        lasted = approximate_duration(event.wall - min(message.wall for message in ended))
        words = f"over after {lasted}: {event.message}"
        if event.vm and event.generation and event.kind not in SAY_THEMSELVES:
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
    """What an event is about. Events of builds name the image before the first colon; of tags, the tag first."""
    if condition == "build":
        return plain(event.message.partition(":")[0], LONGEST_LINE)
    if condition == "lookup":
        words = event.message.removeprefix(f"{LOOK_UP} ").split(maxsplit=1)
        return plain(words[0].rstrip(":"), LONGEST_LINE) if words else ""
    return event.vm or event.group or ""
