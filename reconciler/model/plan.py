"""What will be done in this pass, what will not be and why, and when to look again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from reconciler.model.actions import Action
from reconciler.model.change import Change
from reconciler.model.health import ProbePlan
from reconciler.model.names import InstanceId, LayerKey, VMName
from reconciler.model.waits import Wait

Effect = Literal["rebuild", "restart", "checks on trial", "in place"]


@dataclass(frozen=True, slots=True)
class LayerPair:
    """A layer before and after a change, both of the same kind."""

    kind: str
    before: LayerKey
    after: LayerKey
    digests: tuple[str, str] = ("", "")
    """By which the manifest names the images of a registry or layout; empty: by none."""


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field that differs: `spec.memory 256MiB -> 512MiB: restart`."""

    path: str
    old: str
    new: str
    effect: Effect
    layers: LayerPair | None = None
    """Of a layer that stays of its kind."""
    inside: tuple[str, ...] = ()
    """What changes inside of that layer, a line each; filled in for those who ask (`explain/layer_changes.py`)."""

    def __str__(self) -> str:
        return f"{self.path} {self.old} -> {self.new}: {self.effect}"


@dataclass(frozen=True, slots=True)
class Plan:
    """Execution has no choices left: write `changes`, watch `probes`, do `actions`."""

    actions: tuple[Action, ...] = ()
    waits: tuple[Wait, ...] = ()
    changes: tuple[Change, ...] = ()
    wake_at: float | None = None
    """Boot-clock moment of the next deadline; None: only an event can change anything."""
    probes: Mapping[InstanceId, ProbePlan] = field(default_factory=dict)
    trial_probes: Mapping[InstanceId, ProbePlan] = field(default_factory=dict)
    """Changed checks on trial, asked of the same guests beside their present ones."""
    named: frozenset[str] = frozenset()
    """Keys of images that a generation or a desired VM names; empty before the first revision."""
    differences: Mapping[VMName, tuple[FieldChange, ...]] = field(default_factory=dict)
    """What the next generation of a VM changes, for `plan` and people."""

    @property
    def idle(self) -> bool:
        return not self.actions and not self.changes


@dataclass(frozen=True, slots=True)
class Violation:
    """A plan that would break a law: a bug of ours, refused before anything ran."""

    law: int
    subject: str
    message: str
