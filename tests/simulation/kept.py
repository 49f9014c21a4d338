"""What outlives guests in a life: a volume, or a disk that firmware boots and that is kept for each image."""

from __future__ import annotations

from reconciler.model.desired import VMSpec
from reconciler.model.image import DiskImage
from reconciler.model.names import GenerationNumber, VMName
from reconciler.model.record import Generation, VMRecord
from tests.world import World, on_a_disk

IMAGES = ("aa" * 32, "bb" * 32)


def with_disk(keeper: VMSpec) -> VMSpec:
    """On one of two images, by what else is in the commit: so both come back again and again."""
    return on_a_disk(keeper, IMAGES[int(keeper.layers[-1].key[0], 16) % 2])


def volumes_of(name: VMName, generation: Generation) -> tuple[str, ...]:
    """Where a generation of a VM of this name writes to."""
    booted = generation.spec.kernel.source
    ending = f"-{booted.file.sha256}.qcow2" if isinstance(booted, DiskImage) else ".raw"
    return tuple(f"/state/vms/{name}/volumes/{v.name}{ending}" for v in generation.spec.volumes)


def last_good_on(record: VMRecord, generation: Generation) -> Generation | None:
    """The newest committed generation that wrote where this one does."""
    here = volumes_of(record.name, generation)
    good = (g for g in reversed(record.generations) if g.verdict == "committed")
    return next((g for g in good if volumes_of(record.name, g) == here), None)


def writes(world: World, name: VMName, on: Generation, number: int) -> int:
    """How often a generation wrote to the volumes of one."""
    disks = world.hypervisor.disks
    return sum(disks.get(path, []).count(GenerationNumber(number)) for path in volumes_of(name, on))
