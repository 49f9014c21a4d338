"""`./dev bench boot`: from the start of the VMM to init and to the application's first answer, for each kind of root."""

from __future__ import annotations

import asyncio
import re
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from demo.daemon import free_port
from reconciler.clock import SystemClock
from reconciler.hypervisors import QemuConfig
from reconciler.image.store import ImageStore
from reconciler.model.image import DebianKernel, KernelSpec
from reconciler.model.layer_kinds.busybox_layer import BusyboxSource
from reconciler.model.layer_kinds.tree_layer import TreeSource
from reconciler.model.layers import LayerSource, LayerSpec
from reconciler.model.machine import Disk, Machine, Mount, PortForward, UserNetwork
from reconciler.model.names import GenerationNumber, InstanceId, LayerKey, VMName
from reconciler.vmm.host_facts import LocalHost
from reconciler.vmm.qemu.driver import QemuDriver
from reconciler.vmm.registry import DriverRegistry
from tests.bench.bare import BareGuest
from tests.bench.figures import Figure, Scale, median, spread_of
from tests.unit.image.trees import Content, Repository

MARKER = "the application answers"
SCRIPT = """\
#!/bin/sh
mkdir -p /tmp/www
dmesg >/dev/console
echo 'the application answers' >/tmp/www/index.html
httpd -p 80 -h /tmp/www
"""
APP: dict[str, Content] = {"etc": {"rc.local": SCRIPT}}
INIT = re.compile(r"\[ *([0-9.]+)\] Run /init as init process")
UP = re.compile(r"\[ *([0-9.]+)\] reconciler-up:")
PARTS = 40
"""Images of the guest with many: more than its board has transports."""


@dataclass(frozen=True)
class Stock:
    kernels: Mapping[bool, tuple[Path, Path]]
    """By whether its initrd can do verity."""
    erofs: tuple[Disk, ...]
    squashfs: tuple[Disk, ...]
    verity: tuple[Disk, ...]
    many: tuple[Disk, ...]


def measure(scale: Scale) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="bench-boot-") as name:
        return asyncio.run(_measure(Path(name), scale))


async def _measure(folder: Path, scale: Scale) -> list[Figure]:
    stock = await _stock(folder, Repository(folder / "repository.git"))
    plain = await _machine(folder, stock)
    volume = _volume(folder / "root.raw")
    kinds = {
        "erofs layers, writes to memory": plain,
        "squashfs layers": _with(plain, stock.squashfs),
        "a read-only root": _with(plain, stock.erofs, read_only_root=True),
        "a root on a volume": _with(
            plain, stock.erofs, volumes=(volume,), mounts=(Mount(volume.serial, "/", "ext4"),)
        ),
        "erofs layers with verity": _with(plain, stock.verity, initrd=str(stock.kernels[True][1])),
        f"{PARTS} layers": _with(plain, stock.many),
    }
    found: dict[str, list[tuple[float, float, float]]] = {kind: [] for kind in kinds}
    for number in range(scale.pick(5, 1)):
        for kind, machine in kinds.items():
            home = folder / f"{number}-{len(found[kind])}-{list(kinds).index(kind)}"
            found[kind].append(await _boot(machine, home))
    return [
        figure
        for kind, times in found.items()
        for figure in _figures(kind, times, found["erofs layers, writes to memory"])
    ]


def _figures(
    kind: str, times: list[tuple[float, float, float]], plain: list[tuple[float, float, float]]
) -> list[Figure]:
    names = ("kernel's start to our init", "kernel's start to up", "VMM's start to first answer")
    figures = []
    for place, name in enumerate(names):
        values, others = [one[place] for one in times], [one[place] for one in plain]
        figures.append(
            Figure(
                f"{kind}: {name}", median(values), "s", median(others),
                "erofs layers, writes to memory, in the same run", spread=spread_of(values, "s"),
            )
        )  # fmt: skip
    return figures


async def _boot(machine: Machine, home: Path) -> tuple[float, float, float]:
    """Seconds to init and to up by the guest's clock, and to the first answer by the host's."""
    port = free_port()
    network = UserNetwork(machine.networks[0].mac, (PortForward(port, 80),))
    guest = BareGuest(home, port)
    placed = _with(machine, machine.layers, networks=(network,), folder=str(home))
    argv = QemuDriver(QemuConfig()).launch(placed).argv
    begun = time.monotonic()
    try:
        await guest.boot(list(argv), MARKER)
        answered = time.monotonic() - begun
    finally:
        await guest.kill()
    console = (home / "console.log").read_text(encoding="utf-8", errors="replace")
    started, up = INIT.search(console), UP.search(console)
    if started is None or up is None:
        raise RuntimeError(f"the console does not say when init began: {console[-500:]}")
    return float(started[1]), float(up[1]), answered


def _with(machine: Machine, layers: tuple[Disk, ...], **fields: object) -> Machine:
    return replace(machine, layers=layers, **fields)  # type: ignore[arg-type]


async def _stock(folder: Path, repository: Repository) -> Stock:
    store = ImageStore(folder / "state", SystemClock())
    await store.open()
    try:
        kernels = {}
        for verity in (False, True):
            kernel = KernelSpec.of("debian", DebianKernel(contract=2, verity=verity))
            await store.build_kernel(kernel, repository.content)
            kernels[verity] = store.kernel_paths(kernel.key)
        app = TreeSource(repository.tree(APP, "rc.local"), "app")
        sources: tuple[LayerSource, LayerSource] = (BusyboxSource(), app)
        small = [
            TreeSource(repository.tree({f"file{n}": f"{n}\n"}), f"part{n}")
            for n in range(PARTS - 2)
        ]

        async def disks(specs: list[LayerSpec]) -> tuple[Disk, ...]:
            for spec in specs:
                await store.build_layer(spec, repository.content)
            trees: Mapping[LayerKey, str] = store.hash_trees()
            return tuple(
                Disk(
                    str(store.layer_path(spec.key)),
                    f"layer{n}",
                    read_only=True,
                    hash_tree=trees.get(spec.key, ""),
                )
                for n, spec in enumerate(specs)
            )

        return Stock(
            kernels,
            await disks([LayerSpec.of(one, "erofs") for one in sources]),
            await disks([LayerSpec.of(one, "squashfs") for one in sources]),
            await disks([LayerSpec.of(one, "erofs", verity=True) for one in sources]),
            await disks([LayerSpec.of(one, "erofs") for one in (sources[0], *small, sources[1])]),
        )
    finally:
        await store.close()


async def _machine(folder: Path, stock: Stock) -> Machine:
    drivers = DriverRegistry({"qemu": QemuDriver(QemuConfig())})
    facts = await LocalHost(folder, drivers, SystemClock()).facts()
    kernel, initrd = stock.kernels[False]
    return Machine(
        vm=VMName("bench"),
        generation=GenerationNumber(1),
        instance=InstanceId("bench-g1-1"),
        vcpu=1,
        memory_mib=256,
        accel=facts.accel_of("qemu"),
        tsc_khz=facts.tsc_khz,
        kernel=str(kernel),
        initrd=str(initrd),
        cmdline=(),
        layers=stock.erofs,
        volumes=(),
        mounts=(),
        networks=(UserNetwork("52:54:00:12:34:56"),),
        folder=str(folder),
    )


def _volume(path: Path) -> Disk:
    with path.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", path], check=True, timeout=20)
    return Disk(str(path), "vol-root", read_only=False)
