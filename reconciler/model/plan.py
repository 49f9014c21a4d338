"""What will be done in this pass, what will not be and why, and when to look again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from reconciler.model.change import Change
from reconciler.model.health import ProbePlan
from reconciler.model.image import KernelSpec, LayerSpec
from reconciler.model.machine import GuestEndpoint, Machine, RouteTarget, Slot, Tap
from reconciler.model.names import GenerationNumber, InstanceId, VMName
from reconciler.model.record import Generation
from reconciler.model.waits import Wait

Effect = Literal["rebuild", "restart", "checks on trial", "in place"]
STORE = "store"
"""Whom a collection is about, among what is being built."""


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field that differs: `spec.memory 256MiB -> 512MiB: restart`."""

    path: str
    old: str
    new: str
    effect: Effect

    def __str__(self) -> str:
        return f"{self.path} {self.old} -> {self.new}: {self.effect}"


# Actions. `why` is for people; all that is to be remembered is in the plan's `changes`, which are
# durable before the first action begins.


@dataclass(frozen=True, slots=True)
class BuildLayer:
    spec: LayerSpec
    why: str


@dataclass(frozen=True, slots=True)
class BuildKernel:
    spec: KernelSpec
    why: str


@dataclass(frozen=True, slots=True)
class CancelBuild:
    """A build under way ends, and leaves nothing: that is neither its success nor its failure."""

    key: str
    why: str


@dataclass(frozen=True, slots=True)
class CreateGeneration:
    """Write the generation's folder; the record has the generation already."""

    vm: VMName
    generation: Generation
    machine: Machine
    why: str
    volume_sizes: Mapping[str, int] = field(default_factory=dict)
    """MiB by disk path: what the volumes that exist will have to grow to."""


@dataclass(frozen=True, slots=True)
class StartGuest:
    vm: VMName
    machine: Machine
    volume_sizes: Mapping[str, int]
    """MiB by disk path: volumes that are created if they are missing."""
    why: str
    kept: frozenset[str] = frozenset()
    """Paths of those that the last good generation had: they hold data, and are not begun again."""


@dataclass(frozen=True, slots=True)
class StartBeside:
    """Start a second guest, while another of the same VM serves."""

    vm: VMName
    machine: Machine
    why: str


@dataclass(frozen=True, slots=True)
class OpenPorts:
    """Let ports that the kernel chooses lead to a guest, and those of its manifest not by itself."""

    vm: VMName
    endpoint: GuestEndpoint
    why: str


@dataclass(frozen=True, slots=True)
class HandOver:
    """Lead the ports to a candidate. May be done again at any time, however far it came before."""

    vm: VMName
    machine: Machine
    """The candidate's, of which its generation's folder is to tell."""
    target: RouteTarget
    predecessor: InstanceId | None
    drain: float
    """Seconds that connections to the giver have at most to end, before it may be stopped."""
    why: str


@dataclass(frozen=True, slots=True)
class Lead:
    """Have the front lead a VM's ports to the guest that serves, or let go of them."""

    vm: VMName
    target: RouteTarget | None
    why: str


@dataclass(frozen=True, slots=True)
class StopLadder:
    """Seconds that each rung has before the next: power button, SIGTERM, SIGKILL."""

    power_button: float
    term: float = 10.0
    kill: float = 10.0


@dataclass(frozen=True, slots=True)
class StopGuest:
    vm: VMName
    instance: InstanceId
    ladder: StopLadder
    why: str
    slot: Slot = 1


@dataclass(frozen=True, slots=True)
class ForgetGuest:
    """The guest ended and its end is in the record: its traces may go."""

    vm: VMName
    instance: InstanceId
    why: str


@dataclass(frozen=True, slots=True)
class DropGenerations:
    vm: VMName
    numbers: tuple[GenerationNumber, ...]
    why: str


@dataclass(frozen=True, slots=True)
class SnapshotVolumes:
    """Copy the volumes of a VM that does not run; each pair is a volume and its snapshot."""

    vm: VMName
    pairs: tuple[tuple[str, str], ...]
    why: str


@dataclass(frozen=True, slots=True)
class RestoreVolumes:
    """Put the snapshots back in place of the volumes of a VM that does not run; keep the snapshots."""

    vm: VMName
    pairs: tuple[tuple[str, str], ...]
    why: str


@dataclass(frozen=True, slots=True)
class DropSnapshots:
    vm: VMName
    paths: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class RemoveVM:
    """The VM's folder goes, its volumes stay."""

    vm: VMName
    why: str


@dataclass(frozen=True, slots=True)
class PlugTaps:
    """Taps of a living guest go back into their bridges; the guest is not touched."""

    vm: VMName
    taps: tuple[Tap, ...]
    why: str


@dataclass(frozen=True, slots=True)
class DropTaps:
    """Taps of ours that lead to no guest any more are removed."""

    vm: VMName
    names: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class MoveVM:
    """The folder of a VM that does not run gets another name, with all that is in it."""

    vm: VMName
    to: VMName
    why: str


@dataclass(frozen=True, slots=True)
class Collect:
    """Everything in the store that is not pinned goes."""

    pinned: frozenset[str]
    why: str


@dataclass(frozen=True, slots=True)
class Note:
    """A decision whose whole effect is in the record: commit, condemn, hold, adopt, in place."""

    kind: Literal[
        "commit", "condemn", "rolled-back", "quarantine", "in-place", "hold", "lift-hold",
        "applied", "crash", "progress", "resumed", "block-lifted", "build-failed", "remove", "adopt", "close",
        "checks-tried", "checks-accepted", "checks-condemned", "checks-withdrawn",
    ]  # fmt: skip
    subject: str
    why: str


Action = (
    BuildLayer
    | BuildKernel
    | CancelBuild
    | CreateGeneration
    | StartGuest
    | StartBeside
    | OpenPorts
    | HandOver
    | Lead
    | StopGuest
    | ForgetGuest
    | DropGenerations
    | SnapshotVolumes
    | RestoreVolumes
    | DropSnapshots
    | RemoveVM
    | MoveVM
    | PlugTaps
    | DropTaps
    | Collect
    | Note
)


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
