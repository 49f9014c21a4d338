"""A generation on this host as a machine: every path, port and name is settled here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePath

from reconciler.host import layout
from reconciler.model.desired import VMSpec
from reconciler.model.image import NixRunner
from reconciler.model.machine import Disk, Machine, Mount, Slot, UserNetwork
from reconciler.model.names import InstanceId, VMName
from reconciler.model.observed import HostFacts
from reconciler.model.record import Generation
from reconciler.now import Now


def instance_id(vm: VMName, generation: Generation, now: Now) -> InstanceId:
    """Unique by the moment; readable in a process list."""
    return InstanceId(f"{vm}-g{generation.number}-{int(now.wall * 1000):x}")


def machine_of(
    generation: Generation, instance: InstanceId, host: HostFacts, state_dir: str, slot: Slot = 1
) -> Machine:
    """The complete machine for one start of a generation."""
    spec = generation.spec
    made = isinstance(spec.kernel.source, NixRunner)
    state = PurePath(state_dir)
    home = layout.vm(state, spec.name)
    kernel, initrd = ("", "") if made else map(str, layout.kernel_files(state, spec.kernel.key))
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
            Disk(str(layout.layer_image(state, layer.key)), f"layer{index}", read_only=True)
            for index, layer in enumerate(spec.layers)
        ),
        volumes=tuple(
            Disk(str(layout.volume(home, v.name)), _serial(v.name), read_only=False)
            for v in spec.volumes
        ),
        mounts=tuple(Mount(_serial(v.name), v.mount_point, v.fs_type) for v in spec.volumes),
        networks=_own(spec),
        taps=spec.taps,
        folder=str(layout.guest_folder(home, slot)),
        slot=slot,
        stop_timeout=spec.update.stop_timeout,
        runner=str(layout.runner(state, spec.kernel.key)) if made else "",
    )


def _own(spec: VMSpec) -> tuple[UserNetwork, ...]:
    """Behind the front a guest has ports of its own, which the kernel chooses once it runs."""
    if not spec.handed_over:
        return spec.networks
    return tuple(replace(network, forwards=()) for network in spec.networks)


def volume_sizes(generation: Generation, state_dir: str) -> dict[str, int]:
    """MiB by path, for the volumes that a start creates when they are missing."""
    spec = generation.spec
    home = layout.vm(PurePath(state_dir), spec.name)
    return {str(layout.volume(home, v.name)): v.size_mib for v in spec.volumes}


def _serial(volume: str) -> str:
    """virtio-blk keeps 20 bytes of a serial; volume names are at most 16."""
    return f"vol-{volume}"
