"""The folder in which a guest lives: its VM and slot, and the file that names its process."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from reconciler.host import layout
from reconciler.hypervisors import DEFAULT, NIX_RUNNER
from reconciler.model.machine import Slot
from reconciler.model.names import NAME_RE, GenerationNumber, InstanceId, VMName
from reconciler.model.observed import Process
from reconciler.untrusted_file import reading, replacing

MOST_BYTES = 64 * 1024
MOST_DESCRIPTION_BYTES = 1024 * 1024


def slot_of(folder: Path) -> Slot:
    return 2 if folder.name.endswith(layout.SECOND) else 1


def owner(folder: Path) -> VMName:
    """The VM of a guest's folder."""
    return VMName(folder.name.removesuffix(layout.SECOND))


def is_slot(folder: Path) -> bool:
    """Whether a folder has the name of some VM's slot."""
    return NAME_RE.match(owner(folder)) is not None


def slot_folder(root: Path, vm: VMName, slot: Slot) -> Path:
    return layout.guest_folder(root / vm, slot)


class GuestFile(BaseModel):
    """The process of a guest, as recorded when it was started."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, hide_input_in_errors=True)

    instance: str = Field(min_length=1, max_length=200)
    generation: int = Field(ge=0)
    pid: int = Field(gt=1)
    start_time: int = Field(ge=0)
    started_boot: float = Field(ge=0)
    boot_id: str = Field(max_length=100)
    hypervisor: str = Field(default="", max_length=40)
    """Empty in what earlier versions wrote."""

    def process(self, folder: Path) -> Process:
        """The process, as the guest of this folder."""
        return Process(
            vm=owner(folder),
            slot=slot_of(folder),
            instance=InstanceId(self.instance),
            generation=GenerationNumber(self.generation),
            pid=self.pid,
            start_time=self.start_time,
            started_boot=self.started_boot,
            hypervisor=hypervisor_of(folder, self.generation, self.hypervisor),
        )


def write(folder: Path, process: Process, boot_id: str) -> None:
    """Write the file atomically. Not synced: after a crash of the host no guest runs. Raises OSError."""
    content = GuestFile(
        instance=process.instance,
        generation=process.generation,
        pid=process.pid,
        start_time=process.start_time,
        started_boot=process.started_boot,
        boot_id=boot_id,
        hypervisor=process.hypervisor,
    )
    path = layout.guest_file(folder)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with replacing(temporary) as file:
        file.write(content.model_dump_json().encode())
    temporary.replace(path)


class _FormerMachine(BaseModel):
    """Of a generation's description, which says for what it was written."""

    runner: str = ""


class _FormerDescription(BaseModel):
    machine: _FormerMachine = _FormerMachine()


_DESCRIPTION = TypeAdapter(tuple[_FormerDescription])


def hypervisor_of(folder: Path, generation: int, said: str) -> str:
    """Whose guest lives in this folder: what was `said` at its start, else by its generation's description.

    Before hypervisors had names there were guests of the default one, and runners of Nix.
    """
    if said:
        return said
    home = folder.with_name(owner(folder))
    try:
        with layout.description(layout.generation(home, generation)).open("rb") as file:
            (found,) = _DESCRIPTION.validate_json(file.read(MOST_DESCRIPTION_BYTES))
    except (OSError, ValidationError):
        return DEFAULT
    return NIX_RUNNER if found.machine.runner else DEFAULT


def read(folder: Path) -> GuestFile | None:
    """The file's content; None if it is missing or invalid."""
    try:
        with reading(layout.guest_file(folder)) as file:
            return GuestFile.model_validate_json(file.read(MOST_BYTES))
    except (OSError, ValidationError):
        return None


def remove(folder: Path, instance: InstanceId) -> None:
    """Remove the file, unless it already names a newer guest. Raises OSError."""
    present = read(folder)
    if present is None or present.instance == instance:
        layout.guest_file(folder).unlink(missing_ok=True)
