"""The folders in which guests live: `vms/NAME` is a VM's first slot, `vms/NAME.2` its second."""

from __future__ import annotations

from pathlib import Path

from reconciler.model.machine import SECOND, Slot, guest_folder
from reconciler.model.names import NAME_RE, VMName


def slot_of(folder: Path) -> Slot:
    return 2 if folder.name.endswith(SECOND) else 1


def owner(folder: Path) -> VMName:
    """The VM whose guest lives in this folder."""
    return VMName(folder.name.removesuffix(SECOND))


def is_slot(folder: Path) -> bool:
    """Whether a guest of some VM could live there, by its name."""
    return NAME_RE.match(owner(folder)) is not None


def slot_folder(root: Path, vm: VMName, slot: Slot) -> Path:
    return Path(guest_folder(str(root / vm), slot))
