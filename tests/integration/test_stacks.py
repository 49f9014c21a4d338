"""Stacks on real guests: what `validate` refuses does not start, and roots are as writable as manifests say."""

from __future__ import annotations

import asyncio
import http.client
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from reconciler.clock import SystemClock
from reconciler.hypervisors import QemuConfig
from reconciler.image.build_site import mkfs_argv
from reconciler.image.store import ImageStore
from reconciler.model.image import DebianKernel, KernelSpec
from reconciler.model.layer_kinds.busybox_layer import BusyboxSource
from reconciler.model.layers import LayerSpec
from reconciler.model.machine import Disk, Machine, Mount, PortForward, UserNetwork
from reconciler.model.names import GenerationNumber, InstanceId, VMName
from reconciler.source.git.clients import TreeExporter
from reconciler.vmm.qemu.argv import argv
from tests.integration.test_image_boot import BOOT_SECONDS, STOP_SECONDS, Guest, Images, tsc_khz
from tests.unit.source.repositories import InProcess, Link, Program, Repository, vm
from tests.unit.source.test_stack import problem_of
from tests.wait import wait_until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.stacks,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        shutil.which("qemu-system-x86_64") is None or shutil.which("apt-get") is None,
        reason="qemu-system-x86_64 or apt-get is missing",
    ),
]

SERVICE = Program("#!/bin/sh\nhttpd -p 80 -h /www\n")
APP: Mapping[str, Any] = {"etc/rc.local": SERVICE, "www/healthz": "ok\n"}
WRITER = Program("""\
#!/bin/sh
mkdir -p /tmp/www
cp /version /tmp/www/version
echo boot >>/etc/boots && cp /etc/boots /tmp/www/boots
rm -f /etc/shells
[ -e /etc/shells ] && echo kept >/tmp/www/shells || echo gone >/tmp/www/shells
mount -o remount,rw / 2>/dev/null
touch /anew && echo yes >/tmp/www/anew || echo no >/tmp/www/anew
cp /etc/hostname /tmp/www/hostname
[ ! -d /data ] || { echo line >>/data/lines; cp /data/lines /tmp/www/lines; }
echo ok >/tmp/www/healthz
httpd -p 80 -h /tmp/www
""")


@dataclass(frozen=True)
class Bench:
    kernel: tuple[Path, Path]
    base: Path


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return asyncio.run(make_bench(tmp_path_factory.mktemp("bench")))


async def make_bench(folder: Path) -> Bench:
    store = ImageStore(folder / "state", SystemClock())
    await store.open()
    try:
        kernel = KernelSpec.of("debian", DebianKernel(contract=2))
        base = LayerSpec.of(BusyboxSource(), "erofs")
        content = TreeExporter(Path("/nowhere"))
        await store.build_kernel(kernel, content)
        await store.build_layer(base, content)
        return Bench(store.kernel_paths(kernel.key), store.layer_path(base.key))
    finally:
        await store.close()


def layer(image: Path, files: Mapping[str, Any]) -> Path:
    """An image with these files: text, programs, links."""
    folder = image.with_suffix(".tree")
    folder.mkdir()
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        match content:
            case Link():
                path.symlink_to(content.target)
            case Program():
                path.write_text(content.text)
                path.chmod(0o755)
            case _:
                path.write_text(content)
    made = mkfs_argv("erofs", str(image), str(folder), 0)
    subprocess.run(made, check=True, timeout=60, capture_output=True)
    return image


class Stacked(Guest):
    """A guest that the product's own command line starts, in a folder of its own."""

    def __init__(self, bench: Bench, folder: Path, layers: Sequence[Path], **fields: Any) -> None:
        super().__init__(Images(*bench.kernel, {}), folder)
        (folder / "run").mkdir(parents=True, exist_ok=True)
        self.machine = Machine(
            vm=VMName("web"),
            generation=GenerationNumber(1),
            instance=InstanceId("web-g1-abc"),
            vcpu=1,
            memory_mib=256,
            accel="tcg",
            tsc_khz=tsc_khz(),
            kernel=str(bench.kernel[0]),
            initrd=str(bench.kernel[1]),
            cmdline=(),
            layers=tuple(Disk(str(p), f"layer{n}", read_only=True) for n, p in enumerate(layers)),
            networks=(UserNetwork("52:54:00:12:34:56", (PortForward(self.port, 80),)),),
            folder=str(folder),
            **{"volumes": (), "mounts": (), **fields},
        )

    def use_layers(self, disks: tuple[Disk, ...]) -> None:
        self.machine = replace(self.machine, layers=disks)

    @property
    def qmp(self) -> Path:
        return self.folder / "run/qmp.sock"

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        words = argv(self.machine, QemuConfig())
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, cwd=self.folder)
        try:
            yield process
        finally:
            process.kill()
            process.wait(10)

    def answers(self, *paths: str) -> list[str]:
        """What it serves once it is up; it is then asked to stop, and does."""
        with self.running() as process:
            self.wait_healthy()
            said = [self.ask(f"/{path}")[1].strip() for path in paths]
            self.press_power_button()
            assert process.wait(STOP_SECONDS) == 0
        return said


@pytest.mark.parametrize(
    "files",
    [
        {"bin": Link("usr/bin")},
        {"sbin": Link("usr/sbin")},
        {"sbin/init/x": ""},
        {"sbin/init": "no mode"},
        {"bin": "a file"},
        {"run": Link("/var/run")},
    ],
    ids=str,
)
def test_what_validate_refuses_does_not_start(
    bench: Bench, tmp_path: Path, files: Mapping[str, Any]
) -> None:
    committed = {f"a/{name}": content for name, content in {**APP, **files}.items()}
    repository = Repository(tmp_path / "repository.git")
    assert problem_of(repository, "[busybox: {}, tree: ./a]", committed)
    upper = layer(tmp_path / "upper", {**APP, **files})
    guest = Stacked(bench, tmp_path / "guest", [bench.base, upper])
    with guest.running() as process:
        assert process.wait(BOOT_SECONDS) != 0
    assert "Kernel panic" in guest.said()


@pytest.mark.parametrize(
    "files",
    [{"bin": Link("usr/bin"), "usr/bin/tool": SERVICE}, {"run": Link("var/run"), "var/run/x": ""}],
    ids=str,
)
def test_the_order_that_validate_proposes_starts(
    bench: Bench, tmp_path: Path, files: Mapping[str, Any]
) -> None:
    committed = {f"a/{name}": content for name, content in {**APP, **files}.items()}
    InProcess(Repository(tmp_path / "repository.git")).read(
        {"web.yaml": vm(layers="[tree: ./a, busybox: {}]"), **committed}
    )
    lower = layer(tmp_path / "lower", {**APP, **files})
    guest = Stacked(bench, tmp_path / "guest", [lower, bench.base])
    with guest.running():
        guest.wait_healthy()


def test_a_guest_has_more_layers_than_its_board_has_transports(
    bench: Bench, tmp_path: Path
) -> None:
    many = [layer(tmp_path / f"part{n}", {f"www/part{n}": f"{n}"}) for n in range(60)]
    guest = Stacked(bench, tmp_path / "guest", [bench.base, *many, layer(tmp_path / "app", APP)])
    assert guest.answers(*(f"part{n}" for n in range(60))) == [str(n) for n in range(60)]


def test_nothing_can_be_written_to_a_root_that_is_read_only(bench: Bench, tmp_path: Path) -> None:
    app = layer(tmp_path / "app", {"etc/rc.local": WRITER, "version": "1"})
    volume = formatted(tmp_path / "data.raw")
    guest = Stacked(
        bench, tmp_path / "guest", [bench.base, app], read_only_root=True,
        volumes=(volume,), mounts=(Mount(volume.serial, "/data", "ext4"),),
    )  # fmt: skip
    assert guest.answers("version", "shells", "anew", "hostname", "lines") == [
        "1", "kept", "no", "web", "line",
    ]  # fmt: skip


def test_a_root_on_a_volume_is_kept_when_the_layers_below_it_change(
    bench: Bench, tmp_path: Path
) -> None:
    volume = formatted(tmp_path / "root.raw")
    mounts = (Mount(volume.serial, "/", "ext4"),)
    seen = []
    for number, version in enumerate(("1", "1", "2", "1")):
        app = layer(tmp_path / f"app{number}", {"etc/rc.local": WRITER, "version": version})
        folder = tmp_path / f"guest{number}"
        guest = Stacked(bench, folder, [bench.base, app], volumes=(volume,), mounts=mounts)
        seen.append(guest.answers("version", "shells", "anew", "boots"))
    assert seen == [
        [version, "gone", "yes", "\n".join(["boot"] * number)]
        for number, version in enumerate(("1", "1", "2", "1"), 1)
    ]


def test_what_was_synced_to_a_kept_root_outlives_a_killed_vmm(bench: Bench, tmp_path: Path) -> None:
    volume = formatted(tmp_path / "root.raw")
    mounts = (Mount(volume.serial, "/", "ext4"),)
    script = Program(WRITER.text.replace("echo ok", "sync; echo ok"))
    app = layer(tmp_path / "app", {"etc/rc.local": script, "version": "1"})
    guest = Stacked(bench, tmp_path / "guest", [bench.base, app], volumes=(volume,), mounts=mounts)
    for number in (1, 2):
        with guest.running():
            boots = partial(served, guest, "boots", "boot\n" * number)
            wait_until(boots, BOOT_SECONDS, f"boot {number}")


def served(guest: Stacked, path: str, text: str) -> bool:
    try:
        return guest.ask(f"/{path}") == (200, text)
    except (OSError, http.client.HTTPException):
        return False


def formatted(path: Path) -> Disk:
    with path.open("wb") as file:
        file.truncate(32 << 20)
    subprocess.run(["mkfs.ext4", "-q", path], check=True, timeout=20)
    return Disk(str(path), f"vol-{path.stem}", read_only=False)
