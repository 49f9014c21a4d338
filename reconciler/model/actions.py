"""What a pass can do: one class for each action, and each says itself what it is.

A new action has four places: its class here, the rule in `planning/steps/` that decides on it, its laws in `planning/lint/laws.py`
and its work in `engine/execute.py`. mypy names those that do not know it yet.

`why` is for people. All that must be remembered is in the plan's `changes`, which are durable before the first action begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from reconciler.model.image import KernelSpec
from reconciler.model.image_tags import Tag
from reconciler.model.layers import LayerSpec
from reconciler.model.machine import GuestEndpoint, Machine, RouteTarget, Slot, Tap
from reconciler.model.names import GenerationNumber, InstanceId, Revision, VMName
from reconciler.model.record import Generation

OperationKind = Literal[
    "create", "start", "stop", "remove", "move", "snapshot", "restore", "start-beside", "open-ports",
    "hand-over", "lead", "plug-taps", "drop-taps",
]  # fmt: skip
"""Slow actions of one VM."""
OutcomeKind = Literal[OperationKind, "build-layer", "build-kernel", "collect", "look-up"]
"""All slow actions: a later pass learns how they ended."""
ActionKind = Literal[OutcomeKind, "cancel-build", "forget", "drop-generations", "drop-snapshots"]
"""The one vocabulary of actions: in plans, intents, metrics, waits and events."""
Scope = Literal["vm", "image", "store", "tag"]
"""What an action is about, and so what its subject names: a VM, an image by its key, the whole store, or a tag."""
Disturbs = Literal["vm", "one guest", "unless handed over", "nothing"]
"""Which guest does not serve while an action runs:

vm                  the VM's; there is none, or it does not count on itself
one guest           the one that the record's stop names, which may not be the one that serves
unless handed over  the one that serves, but for a VM that replaces it by a handover
nothing             none
"""
Phase = Literal["prepare", "snapshot", "stop", "start", "restore"]
"""The part of a rollout that an action is."""
STORE = "store"
"""The subject of a collection, also among what is being built."""
SHORT_KEY = 12
"""Hexadecimal digits of an image's key that are enough for people."""


class _OfVM:
    """What all actions of one VM have in common."""

    __slots__ = ()
    vm: VMName
    scope: ClassVar[Scope] = "vm"

    @property
    def subject(self) -> str:
        """What it is about, as intents and troubles name it: the VM, the image's key, or STORE."""
        return self.vm

    @property
    def title(self) -> str:
        """The same in words for people."""
        return self.vm

    @property
    def number(self) -> GenerationNumber | None:
        """Of the generation that it makes or starts, or whose guest gets ports."""
        return None


class _OfImages:
    __slots__ = ()
    disturbs: ClassVar[Disturbs] = "nothing"
    phase: ClassVar[Phase | None] = None
    number: ClassVar[GenerationNumber | None] = None


@dataclass(frozen=True, slots=True)
class BuildLayer(_OfImages):
    spec: LayerSpec
    why: str
    kind: ClassVar[OutcomeKind] = "build-layer"
    scope: ClassVar[Scope] = "image"

    @property
    def subject(self) -> str:
        return self.spec.key

    @property
    def title(self) -> str:
        return self.spec.title


@dataclass(frozen=True, slots=True)
class BuildKernel(_OfImages):
    spec: KernelSpec
    why: str
    kind: ClassVar[OutcomeKind] = "build-kernel"
    scope: ClassVar[Scope] = "image"

    @property
    def subject(self) -> str:
        return self.spec.key

    @property
    def title(self) -> str:
        return self.spec.name


@dataclass(frozen=True, slots=True)
class CancelBuild(_OfImages):
    """A build under way ends, and leaves nothing: that is neither its success nor its failure."""

    key: str
    why: str
    kind: ClassVar[ActionKind] = "cancel-build"
    scope: ClassVar[Scope] = "image"

    @property
    def subject(self) -> str:
        return self.key

    @property
    def title(self) -> str:
        return self.key[:SHORT_KEY]


@dataclass(frozen=True, slots=True)
class LookUp(_OfImages):
    """Ask the registry what a tag means."""

    tag: Tag
    revision: Revision
    """The desired one, for which it is looked up."""
    asked: bool
    """A person asked for it."""
    why: str
    kind: ClassVar[OutcomeKind] = "look-up"
    scope: ClassVar[Scope] = "tag"

    @property
    def subject(self) -> str:
        return str(self.tag)

    @property
    def title(self) -> str:
        return self.tag.reference


@dataclass(frozen=True, slots=True)
class Collect(_OfImages):
    """Everything in the store that is not pinned goes."""

    pinned: frozenset[str]
    why: str
    kind: ClassVar[OutcomeKind] = "collect"
    scope: ClassVar[Scope] = "store"
    subject: ClassVar[str] = STORE
    title: ClassVar[str] = STORE


@dataclass(frozen=True, slots=True)
class CreateGeneration(_OfVM):
    """Write the generation's folder; the record has the generation already."""

    vm: VMName
    generation: Generation
    machine: Machine
    why: str
    volume_sizes: Mapping[str, int] = field(default_factory=dict)
    """MiB by disk path: what the volumes that exist will have to grow to."""
    kind: ClassVar[OperationKind] = "create"
    disturbs: ClassVar[Disturbs] = "unless handed over"
    phase: ClassVar[Phase | None] = "prepare"

    @property
    def number(self) -> GenerationNumber:
        return self.generation.number


@dataclass(frozen=True, slots=True)
class StartGuest(_OfVM):
    vm: VMName
    machine: Machine
    volume_sizes: Mapping[str, int]
    """MiB by disk path: volumes that are created if they are missing."""
    why: str
    kept: frozenset[str] = frozenset()
    """Paths of those that the last good generation had: they hold data, and are not begun again."""
    kind: ClassVar[OperationKind] = "start"
    disturbs: ClassVar[Disturbs] = "vm"
    phase: ClassVar[Phase | None] = "start"

    @property
    def number(self) -> GenerationNumber:
        return self.machine.generation


@dataclass(frozen=True, slots=True)
class StartBeside(_OfVM):
    """Start a second guest, while another of the same VM serves."""

    vm: VMName
    machine: Machine
    why: str
    kind: ClassVar[OperationKind] = "start-beside"
    disturbs: ClassVar[Disturbs] = "nothing"
    phase: ClassVar[Phase | None] = "start"

    @property
    def number(self) -> GenerationNumber:
        return self.machine.generation


@dataclass(frozen=True, slots=True)
class OpenPorts(_OfVM):
    """Let ports that the kernel chooses lead to a guest, and those of its manifest not by itself."""

    vm: VMName
    endpoint: GuestEndpoint
    why: str
    kind: ClassVar[OperationKind] = "open-ports"
    disturbs: ClassVar[Disturbs] = "nothing"
    phase: ClassVar[Phase | None] = None

    @property
    def number(self) -> GenerationNumber:
        return self.endpoint.generation


@dataclass(frozen=True, slots=True)
class HandOver(_OfVM):
    """Lead the ports to a candidate. May be done again at any time, however far it came before."""

    vm: VMName
    machine: Machine
    """The candidate's; its generation's folder will describe it."""
    target: RouteTarget
    predecessor: InstanceId | None
    drain: float
    """Seconds that connections to the predecessor have at most to end, before it may be stopped."""
    why: str
    kind: ClassVar[OperationKind] = "hand-over"
    disturbs: ClassVar[Disturbs] = "nothing"
    phase: ClassVar[Phase | None] = None

    @property
    def number(self) -> GenerationNumber:
        return self.machine.generation


@dataclass(frozen=True, slots=True)
class Lead(_OfVM):
    """Have the proxy lead a VM's ports to the guest that serves, or let go of them."""

    vm: VMName
    target: RouteTarget | None
    why: str
    kind: ClassVar[OperationKind] = "lead"
    disturbs: ClassVar[Disturbs] = "nothing"
    phase: ClassVar[Phase | None] = None


@dataclass(frozen=True, slots=True)
class StopLadder:
    """Seconds that each rung has before the next: power button, SIGTERM, SIGKILL."""

    power_button: float
    term: float = 10.0
    kill: float = 10.0


@dataclass(frozen=True, slots=True)
class StopGuest(_OfVM):
    vm: VMName
    instance: InstanceId
    ladder: StopLadder
    why: str
    slot: Slot = 1
    kind: ClassVar[OperationKind] = "stop"
    disturbs: ClassVar[Disturbs] = "one guest"
    phase: ClassVar[Phase | None] = "stop"


@dataclass(frozen=True, slots=True)
class ForgetGuest(_OfVM):
    """The guest ended and its end is in the record: its traces may go."""

    vm: VMName
    instance: InstanceId
    why: str
    kind: ClassVar[ActionKind] = "forget"
    disturbs: ClassVar[Disturbs] = "nothing"
    phase: ClassVar[Phase | None] = None


@dataclass(frozen=True, slots=True)
class DropGenerations(_OfVM):
    vm: VMName
    numbers: tuple[GenerationNumber, ...]
    why: str
    kind: ClassVar[ActionKind] = "drop-generations"
    disturbs: ClassVar[Disturbs] = "nothing"
    phase: ClassVar[Phase | None] = None


@dataclass(frozen=True, slots=True)
class SnapshotVolumes(_OfVM):
    """Copy the volumes of a VM that does not run; each pair is a volume and its snapshot."""

    vm: VMName
    pairs: tuple[tuple[str, str], ...]
    why: str
    kind: ClassVar[OperationKind] = "snapshot"
    disturbs: ClassVar[Disturbs] = "vm"
    phase: ClassVar[Phase | None] = "snapshot"


@dataclass(frozen=True, slots=True)
class RestoreVolumes(_OfVM):
    """Put the snapshots back in place of the volumes of a VM that does not run; keep the snapshots."""

    vm: VMName
    pairs: tuple[tuple[str, str], ...]
    why: str
    kind: ClassVar[OperationKind] = "restore"
    disturbs: ClassVar[Disturbs] = "vm"
    phase: ClassVar[Phase | None] = "restore"


@dataclass(frozen=True, slots=True)
class DropSnapshots(_OfVM):
    vm: VMName
    paths: tuple[str, ...]
    why: str
    kind: ClassVar[ActionKind] = "drop-snapshots"
    disturbs: ClassVar[Disturbs] = "nothing"
    phase: ClassVar[Phase | None] = None


@dataclass(frozen=True, slots=True)
class RemoveVM(_OfVM):
    """The VM's folder goes, its volumes stay."""

    vm: VMName
    why: str
    kind: ClassVar[OperationKind] = "remove"
    disturbs: ClassVar[Disturbs] = "vm"
    phase: ClassVar[Phase | None] = None


@dataclass(frozen=True, slots=True)
class MoveVM(_OfVM):
    """The folder of a VM that does not run gets another name, with all that is in it."""

    vm: VMName
    to: VMName
    why: str
    kind: ClassVar[OperationKind] = "move"
    disturbs: ClassVar[Disturbs] = "vm"
    phase: ClassVar[Phase | None] = None


@dataclass(frozen=True, slots=True)
class PlugTaps(_OfVM):
    """Taps of a living guest go back into their bridges; the guest is not touched."""

    vm: VMName
    taps: tuple[Tap, ...]
    why: str
    kind: ClassVar[OperationKind] = "plug-taps"
    disturbs: ClassVar[Disturbs] = "nothing"
    phase: ClassVar[Phase | None] = None


@dataclass(frozen=True, slots=True)
class DropTaps(_OfVM):
    """Taps of ours that lead to no guest any more are removed."""

    vm: VMName
    names: tuple[str, ...]
    why: str
    kind: ClassVar[OperationKind] = "drop-taps"
    disturbs: ClassVar[Disturbs] = "nothing"
    phase: ClassVar[Phase | None] = None


VMOperation = (
    CreateGeneration | StartGuest | StartBeside | OpenPorts | HandOver | Lead | StopGuest | SnapshotVolumes
    | RestoreVolumes | RemoveVM | MoveVM | PlugTaps | DropTaps
)  # fmt: skip
"""Slow actions of one VM: one at a time."""
StoreOperation = BuildLayer | BuildKernel | Collect | LookUp
"""Slow actions of the image store: one at a time for each subject."""
Action = VMOperation | StoreOperation | CancelBuild | ForgetGuest | DropGenerations | DropSnapshots
ACTION_OF: Mapping[OutcomeKind, type[VMOperation | StoreOperation]] = {
    action.kind: action for action in get_args(VMOperation | StoreOperation)
}
"""What is known of each slow action by its kind alone, while it is under way and when it ended."""
