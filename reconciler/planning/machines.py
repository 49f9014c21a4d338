"""Turns a generation into a machine on this host: every path, port and name is decided here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import PurePath

from reconciler.host import layout
from reconciler.model.desired import VMSpec, VolumeSpec
from reconciler.model.image import DiskImage, NixRunner
from reconciler.model.machine import (
    NO_TREE,
    ROOT,
    BootDisk,
    Disk,
    Machine,
    Mount,
    Slot,
    UserNetwork,
    volume_serial,
)
from reconciler.model.names import InstanceId, KernelKey, LayerKey, VMName
from reconciler.model.observed import Observed
from reconciler.model.record import Generation
from reconciler.now import Now


def instance_id(vm: VMName, generation: Generation, now: Now) -> InstanceId:
    """An instance id: unique by its time, and readable in a process list."""
    return InstanceId(f"{vm}-g{generation.number}-{int(now.wall * 1000):x}")


def machine_of(
    generation: Generation, instance: InstanceId, observed: Observed, state_dir: str, slot: Slot = 1
) -> Machine:
    """The complete machine for one start of a generation."""
    spec, host = generation.spec, observed.host
    made = isinstance(spec.kernel.source, NixRunner)
    home = layout.vm(PurePath(state_dir), spec.name)
    disk = _boot_disk(state_dir, home, spec)
    mounted = [v for v in spec.volumes if disk is None or v.mount_point != ROOT]
    missing = NO_TREE if any(layer.verity for layer in spec.layers) else ""
    kernel, initrd = ("", "") if made or disk else _boot_files(state_dir, spec.kernel.key)
    return Machine(
        vm=spec.name,
        generation=generation.number,
        instance=instance,
        vcpu=spec.vcpu,
        memory_mib=spec.memory_mib,
        hypervisor=spec.driver,
        accel=host.accel_of(spec.driver),
        tsc_khz=host.tsc_khz,
        kernel=kernel,
        initrd=initrd,
        cmdline=(),
        layers=tuple(
            _layer(state_dir, key, index, observed.hash_trees.get(key, missing))
            for index, key in enumerate(_images(spec, observed))
        ),
        volumes=tuple(
            Disk(str(layout.volume(home, v.name)), volume_serial(v.name), read_only=False)
            for v in mounted
        ),
        mounts=tuple(Mount(volume_serial(v.name), v.mount_point, v.fs_type) for v in mounted),
        networks=_own(spec),
        taps=spec.taps,
        folder=str(layout.guest_folder(home, slot)),
        slot=slot,
        stop_timeout=spec.update.stop_timeout,
        read_only_root=spec.read_only_root,
        runner=str(layout.runner(PurePath(state_dir), spec.kernel.key)) if made else "",
        disk=disk,
    )


def _images(spec: VMSpec, observed: Observed) -> Iterator[LayerKey]:
    """The images of its layers, bottom first."""
    for layer in spec.layers:
        yield from observed.parts.get(layer.key, (layer.key,))


def _boot_disk(state_dir: str, home: PurePath, spec: VMSpec) -> BootDisk | None:
    source = spec.kernel.source
    if not isinstance(source, DiskImage):
        return None
    path = layout.disk_image(PurePath(state_dir), spec.kernel.key)
    root = spec.root_volume
    overlay = str(volume_path(home, spec, root)) if root is not None else ""
    return BootDisk(str(path), source.firmware, overlay)


def volume_path(home: PurePath, spec: VMSpec, volume: VolumeSpec) -> PurePath:
    """Where a volume of a spec is, in the VM's folder.

    What a guest wrote to a disk is blocks, which mean something above the very image that it began with:
    above another one they are damage. So it has the image in its name, and a VM has one for each image.
    """
    booted = spec.kernel.source
    if volume.mount_point == ROOT and isinstance(booted, DiskImage):
        return layout.overlay(home, volume.name, booted.file.sha256)
    return layout.volume(home, volume.name)


# Kept, as thousands of VMs share a few images, and joining paths is most of what a machine costs.
@lru_cache(maxsize=16_384)
def _layer(state_dir: str, key: LayerKey, index: int, hash_tree: str) -> Disk:
    path = layout.layer_image(PurePath(state_dir), key)
    return Disk(str(path), f"layer{index}", read_only=True, hash_tree=hash_tree)


@lru_cache(maxsize=1024)
def _boot_files(state_dir: str, key: KernelKey) -> tuple[str, str]:
    kernel, initrd = layout.kernel_files(PurePath(state_dir), key)
    return str(kernel), str(initrd)


def _own(spec: VMSpec) -> tuple[UserNetwork, ...]:
    """Networks without the manifest's ports: behind the proxy a guest gets free ones once it runs."""
    if not spec.handed_over:
        return spec.networks
    return tuple(replace(network, forwards=()) for network in spec.networks)


def volume_sizes(generation: Generation, state_dir: str) -> dict[str, int]:
    """MiB by path, for volumes that a start creates if they are missing."""
    spec = generation.spec
    home = layout.vm(PurePath(state_dir), spec.name)
    return {str(volume_path(home, spec, v)): v.size_mib for v in spec.volumes}
