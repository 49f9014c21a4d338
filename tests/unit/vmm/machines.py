"""Machines and generations for tests, with every field settable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from reconciler.model.checks import HttpCheck, ProcessCheck, TcpCheck
from reconciler.model.desired import HealthPolicy, RollbackPolicy, UpdatePolicy, VMSpec, VolumeSpec
from reconciler.model.image import DebianKernel, KernelSpec
from reconciler.model.layer_kinds.busybox_layer import BusyboxSource
from reconciler.model.layer_kinds.tree_layer import TreeSource
from reconciler.model.layers import LayerSpec
from reconciler.model.machine import Disk, Machine, Mount, PortForward, UserNetwork
from reconciler.model.names import Digest, GenerationNumber, GroupName, InstanceId, Revision, VMName
from reconciler.model.record import Generation


def a_machine(folder: Path | str = "/s/vms/web") -> Machine:
    return Machine(
        vm=VMName("web"),
        generation=GenerationNumber(3),
        instance=InstanceId("web-g3-abc"),
        vcpu=1,
        memory_mib=256,
        accel="tcg",
        tsc_khz=2_596_095,
        kernel="/s/kernels/k/vmlinuz",
        initrd="/s/kernels/k/initrd",
        cmdline=(),
        layers=(Disk("/s/layers/a/image", "layer0", read_only=True),),
        volumes=(),
        mounts=(),
        networks=(UserNetwork("52:54:00:00:00:01", (PortForward(8080, 80),)),),
        folder=str(folder),
    )


def a_full_machine() -> Machine:
    return replace(
        a_machine(),
        vcpu=2,
        memory_mib=512,
        accel="kvm",
        tsc_khz=None,
        cmdline=("loglevel=7", "init=/sbin/init"),
        layers=(
            Disk("/s/layers/a/image", "layer0", read_only=True),
            Disk("/s/odd, name/image", "layer1", read_only=True),
        ),
        volumes=(Disk("/s/vms/web/volumes/data.raw", "vol-data", read_only=False),),
        mounts=(Mount("vol-data", "/var/lib/app", "ext4"),),
        networks=(
            UserNetwork(
                "52:54:00:00:00:01",
                (PortForward(8080, 80), PortForward(5353, 53, "udp", "127.0.0.2")),
            ),
        ),
    )


def a_generation(number: int = 3, name: str = "web") -> Generation:
    layer = LayerSpec.of(TreeSource("a" * 40, "./web"), "erofs")
    spec = VMSpec(
        name=VMName(name),
        group=GroupName("frontend"),
        labels=(("tier", "web"),),
        hypervisor="qemu",
        vcpu=1,
        memory_mib=256,
        kernel=KernelSpec.of("debian", DebianKernel()),
        format="erofs",
        layers=(LayerSpec.of(BusyboxSource(), "erofs"), layer),
        volumes=(VolumeSpec("data", "/var/lib/app", 64),),
        networks=(UserNetwork("52:54:00:00:00:01", (PortForward(8080, 80),)),),
        health=HealthPolicy((HttpCheck(8080), TcpCheck(8080, expect="hi"), ProcessCheck())),
        update=UpdatePolicy((VMName("db"),)),
        rollback=RollbackPolicy(),
    )
    return Generation(
        vm=VMName(name),
        number=GenerationNumber(number),
        digest=Digest("d" * 64),
        revision=Revision("c" * 40),
        spec=replace(spec, digest=spec.compute_digest()),
        created_wall=1_700_000_000.5,
    )
