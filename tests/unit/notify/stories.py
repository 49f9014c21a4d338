"""Events as the planner writes them, and the config entries of sinks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from reconciler.config import Config, NotificationConfig, parse_config
from reconciler.model.event import Event, EventKind
from reconciler.model.names import GenerationNumber, GroupName, VMName

WALL = 1_790_000_000.0
REVISION = "a1b2c3d4" * 5

SEVERITIES: dict[str, Any] = {
    "generation-condemned": "error",
    "quarantined": "error",
    "revision-rejected": "error",
    "guest-crashed": "warning",
    "rolled-back": "warning",
    "group-held": "warning",
    "build-layer-failed": "warning",
    "look-up-failed": "warning",
    "block-damaged": "warning",
}


class Log:
    """A run of events, numbered as the ledger would."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def add(
        self, kind: EventKind, at: float, vm: str = "", *, group: str = "", generation: int = 0,
        message: str = "",
    ) -> Event:  # fmt: skip
        event = Event(
            kind, message or f"{vm or 'host'}: {kind}", WALL + at,
            vm=VMName(vm) if vm else None,
            group=GroupName(group) if group else None,
            generation=GenerationNumber(generation) if generation else None,
            revision=REVISION,
            severity=SEVERITIES.get(kind, "info"),
        )  # fmt: skip
        self.events.append(replace(event, sequence=len(self.events) + 1))
        return self.events[-1]


def sinks(*entries: dict[str, Any]) -> list[NotificationConfig]:
    raw: dict[str, Any] = {"source": {"url": "/srv/fleet.git"}, "notifications": list(entries)}
    config: Config = parse_config(raw, "test")
    return config.notifications


def sink(**keys: Any) -> Any:
    """One entry, of the class that its `type` says."""
    return sinks({"name": "ops", **keys})[0]
