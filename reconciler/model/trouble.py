"""What failed lately, as the key under which the record has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from reconciler.model.actions import STORE, OperationKind, OutcomeKind
from reconciler.model.names import VMName

VMTrouble = Literal[OperationKind, "trial", "candidate"]
"""An operation of a VM, the start of its generation on trial, or of a second guest that was proven before."""
TroubleKind = Literal[VMTrouble, "collect", "image", "look-up"]
IMAGE: TroubleKind = "image"
LOOK_UP: TroubleKind = "look-up"


@dataclass(frozen=True, slots=True)
class TroubleKey:
    """What failed: `create` of the VM `web`, or the image with some key."""

    kind: TroubleKind
    subject: str
    """A VM's name, an image's key, a tag, or STORE."""

    @classmethod
    def of(cls, kind: OutcomeKind, subject: str) -> TroubleKey:
        """Of a slow action: layers and kernel bundles are remembered by their keys alone."""
        if kind == "build-layer" or kind == "build-kernel":  # noqa: PLR1714 - mypy narrows by it
            return cls(IMAGE, subject)
        return cls(kind, subject)

    @classmethod
    def parse(cls, stored: str) -> TroubleKey:
        """What `str` made. A kind of another version reads as an image, which nothing asks for."""
        kind, _, subject = stored.partition("/")
        known: TroubleKind
        for known in get_args(TroubleKind):
            if subject and known == kind:
                return cls(known, subject)
        return cls(IMAGE, stored)

    def __str__(self) -> str:
        """As the ledger has it."""
        return self.subject if self.kind == IMAGE else f"{self.kind}/{self.subject}"


COLLECTION = TroubleKey("collect", STORE)


def of_vm(vm: VMName) -> frozenset[TroubleKey]:
    """All that may be remembered of one VM."""
    return frozenset(TroubleKey(kind, vm) for kind in get_args(VMTrouble))
