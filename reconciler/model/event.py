"""Events, and the closed set of their kinds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from reconciler.model.actions import OutcomeKind
from reconciler.model.names import GenerationNumber, GroupName, VMName

Severity = Literal["info", "warning", "error"]
FailureKind = Literal[
    "create-failed", "start-failed", "stop-failed", "remove-failed", "move-failed", "snapshot-failed", "restore-failed",
    "start-beside-failed", "open-ports-failed", "hand-over-failed", "lead-failed", "plug-taps-failed", "drop-taps-failed",
    "build-layer-failed", "build-kernel-failed", "collect-failed", "look-up-failed",
]  # fmt: skip
"""An action failed; FAILED says which."""
EventKind = Literal[
    FailureKind,
    "aborted", "adopted", "block-damaged", "build-cancelled", "candidate-failed", "changed-in-place", "collection-requested", "checks-accepted", "checks-condemned",
    "checks-tried", "checks-withdrawn", "damage-checked", "generation-committed", "generation-condemned", "generation-created",
    "group-held", "guest-adopted", "guest-crashed", "guest-finished", "guest-not-ready", "guest-ready",
    "guest-recovered", "guest-starting", "guest-stopping", "handed-over", "hold-lifted", "image-differs", "image-lost", "image-refreshed",
    "image-rotten",
    "pinned", "promoted", "quarantined", "removals-confirmed", "restart-given-up", "resolve-requested", "restart-requested", "resumed",
    "retried", "revision-accepted", "revision-applied", "revision-ended", "revision-rejected", "rewrite-accepted",
    "rolled-back", "source-reachable", "source-unreachable", "suspended", "tag-looked-up", "tap-plugged", "vm-removed", "vm-removing",
    "vm-renamed", "volumes-restored", "volumes-saved",
]  # fmt: skip
"""docs/operations explains each. A ledger may contain kinds of other versions; those are only shown."""

FAILED: Mapping[OutcomeKind, FailureKind] = {
    "create": "create-failed",
    "start": "start-failed",
    "stop": "stop-failed",
    "remove": "remove-failed",
    "move": "move-failed",
    "snapshot": "snapshot-failed",
    "restore": "restore-failed",
    "start-beside": "start-beside-failed",
    "open-ports": "open-ports-failed",
    "hand-over": "hand-over-failed",
    "lead": "lead-failed",
    "plug-taps": "plug-taps-failed",
    "drop-taps": "drop-taps-failed",
    "build-layer": "build-layer-failed",
    "build-kernel": "build-kernel-failed",
    "collect": "collect-failed",
    "look-up": "look-up-failed",
}


@dataclass(frozen=True, slots=True)
class Event:
    """What happened, for people and sinks."""

    kind: EventKind
    message: str
    wall: float
    vm: VMName | None = None
    group: GroupName | None = None
    generation: GenerationNumber | None = None
    revision: str | None = None
    severity: Severity = "info"
    sequence: int = 0
    """Assigned by the ledger, in ascending order."""
