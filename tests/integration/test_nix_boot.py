"""A real guest by a runner that Nix made: QEMU as microvm.nix calls it, on our kernel, its store an erofs."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from demo import images
from reconciler.clock import SystemClock
from reconciler.hypervisors import QemuConfig
from reconciler.image.store import ImageStore
from reconciler.model.image import DebianKernel, KernelSpec
from reconciler.model.layer_kinds.busybox_layer import BusyboxSource
from reconciler.model.layers import LayerSpec
from reconciler.model.machine import Disk, Machine, PortForward, UserNetwork
from reconciler.model.names import GenerationNumber, InstanceId, VMName
from reconciler.source.git.clients import TreeExporter
from reconciler.vmm.host_facts import LocalHost
from reconciler.vmm.qemu.argv import argv
from reconciler.vmm.qemu.driver import QemuDriver
from reconciler.vmm.registry import DriverRegistry
from tests.integration.test_nix_runners import FLAKE, RUN, World, world  # noqa: F401 - a fixture

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

COPY = "cp -r ${{./content}} $out/content"
PACK = "mkdir -p root; cp -r ${{./content}} root/www; cp -r ${{./etc}} root/etc; mkfs.erofs --quiet -T0 --all-root $out/store.erofs root"
SERVE = "#!/bin/sh\nexec httpd -p 80 -h /www\n"
OWN = {
    "file,id=console,path=console.log,append=on": "stdio,id=console,signal=off",
    "unix:run/qmp.sock,server=on,wait=off": "unix:web.sock,server,nowait",
}


async def qemu_of(state: Path, port: int) -> str:
    """The command line of a guest of ours, with console and QMP where microvm.nix has them."""
    images.seed(state)
    store = ImageStore(state, SystemClock())
    await store.open()
    kernel, base = KernelSpec.of("debian", DebianKernel()), LayerSpec.of(BusyboxSource(), "erofs")
    await store.build_kernel(kernel, TreeExporter(state))
    await store.build_layer(base, TreeExporter(state))
    vmlinuz, initrd = store.kernel_paths(kernel.key)
    layer = store.layer_path(base.key)
    await store.close()
    images.save(state)
    return await command_of(state, port, vmlinuz, initrd, layer)


async def command_of(state: Path, port: int, kernel: Path, initrd: Path, base: Path) -> str:
    """Of a guest that boots these, with what the flake packs on top."""
    layers = (str(base), "@out@/store.erofs")
    facts = await LocalHost(
        state, DriverRegistry({"qemu": QemuDriver(QemuConfig())}), SystemClock()
    ).facts()
    machine = Machine(
        vm=VMName("web"), generation=GenerationNumber(0), instance=InstanceId("none"), vcpu=1,
        memory_mib=256, accel=facts.accel_of("qemu"), tsc_khz=facts.tsc_khz, kernel=str(kernel),
        initrd=str(initrd), cmdline=(), volumes=(), mounts=(), folder="",
        layers=tuple(Disk(path, f"layer{n}", read_only=True) for n, path in enumerate(layers)),
        networks=(UserNetwork("52:54:00:12:34:56", (PortForward(port, 80),)),),
    )  # fmt: skip
    return shlex.join([OWN.get(word, word) for word in argv(machine, QemuConfig())])


async def test_a_real_guest_boots_by_its_runner_and_gives_way_to_the_next(
    world: World,  # noqa: F811 - the fixture
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    stage = world.stage
    command = await qemu_of(tmp_path_factory.mktemp("images"), world.port)
    stage.repository.write("flakes/web/microvm-run", RUN.format(command=command))
    stage.repository.write("flakes/web/flake.nix", FLAKE.replace(COPY, PACK).format())
    stage.repository.write("flakes/web/etc/rc.local", SERVE, mode=0o755)
    world.content("one")
    world.manifest()
    world.idle()
    stage.daemon.start()
    world.healthy(stage.repository.push("a guest"))
    assert world.page() == "one"
    first = world.guest()
    assert Path(f"/proc/{first}/cmdline").read_bytes().startswith(b"microvm@web\0-name\0")
    world.content("two")
    world.healthy(stage.repository.push("the next"))
    assert world.page() == "two"
    assert world.guest() != first
    assert "told to end" in (world.folder / "starts").read_text()
