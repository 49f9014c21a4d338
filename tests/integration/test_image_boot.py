"""What the store builds, booted by a hand-written QEMU: the contract of bundle, layers and guest."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reconciler.clock import SystemClock
from reconciler.image.store import ImageStore
from reconciler.model.image import DebianKernel, KernelSpec
from reconciler.model.layer_kinds.busybox_layer import BusyboxSource
from reconciler.model.layer_kinds.described_source import StoreFormat
from reconciler.model.layer_kinds.tree_layer import TreeSource
from reconciler.model.layers import LayerSource, LayerSpec
from reconciler.source.git.clients import TreeExporter
from tests.unit.image.trees import Content, Repository
from tests.wait import wait_until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        shutil.which("qemu-system-x86_64") is None or shutil.which("apt-get") is None,
        reason="qemu-system-x86_64 or apt-get is missing",
    ),
]

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
BOOT_SECONDS = 60.0  # 2 on an idle machine under emulation
STOP_SECONDS = 20.0  # 0.1 on an idle machine

# The application of these tests: says who it is, and dies on demand.
INSTANCE = (
    "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\ncat /run/reconciler/instance\n"
)
PANIC = "#!/bin/sh\nprintf '\\r\\n'\necho c >/proc/sysrq-trigger\n"
EXTRA: dict[str, Content] = {
    "www": {"index.html": "from the top\n", "cgi-bin": {"instance": INSTANCE, "panic": PANIC}}
}


@dataclass(frozen=True)
class Images:
    """All that was built: paths of a kernel, an initrd, and layers by name."""

    kernel: Path
    initrd: Path
    layers: dict[str, Path]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    folder = tmp_path_factory.mktemp("images")
    return asyncio.run(build(folder / "state", Repository(folder / "repository.git")))


async def build(state: Path, repository: Repository) -> Images:
    store = ImageStore(state, SystemClock())
    await store.open()
    try:
        kernel = KernelSpec.of("debian", DebianKernel())
        await store.build_kernel(kernel, TreeExporter(Path("/nowhere")))
        layers = {}
        wanted: dict[str, tuple[LayerSource, StoreFormat]] = {
            "base": (BusyboxSource(), "erofs"),
            "web": (TreeSource(folder_tree(repository, MANIFESTS / "web-a"), "web-a"), "erofs"),
            "db": (TreeSource(folder_tree(repository, MANIFESTS / "db"), "db"), "erofs"),
            "extra": (TreeSource(repository.tree(EXTRA, "instance", "panic"), "extra"), "squashfs"),
        }
        for name, (source, store_format) in wanted.items():
            spec = LayerSpec.of(source, store_format)
            await store.build_layer(spec, repository.content)
            layers[name] = store.layer_path(spec.key)
        return Images(*store.kernel_paths(kernel.key), layers)
    finally:
        await store.close()


def folder_tree(repository: Repository, folder: Path) -> str:
    """A folder of the disk as a git tree, modes and all."""
    entries = []
    for path in sorted(folder.iterdir(), key=lambda path: f"{path.name}{'/' * path.is_dir()}"):
        if path.is_dir():
            entries.append((0o40000, path.name.encode(), folder_tree(repository, path)))
        else:
            mode = 0o100755 if path.stat().st_mode & 0o100 else 0o100644
            entries.append((mode, path.name.encode(), repository.blob(path.read_bytes())))
    return repository.raw_tree(*entries)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def tsc_khz() -> int:
    match = re.search(r"bogomips\s*: ([\d.]+)", Path("/proc/cpuinfo").read_text())
    assert match is not None
    return int(float(match[1]) / 2 * 1000)


@dataclass
class Guest:
    """One QEMU. Its disks are attached in another order than they are stacked."""

    images: Images
    folder: Path
    layers: tuple[str, ...] = ("base", "web", "extra")
    volume: Path | None = None
    missing: str = ""
    port: int = field(default_factory=free_port)

    def argv(self) -> list[str]:
        serials = {f"layer{n}": self.images.layers[name] for n, name in enumerate(self.layers)}
        words = ["quiet", "cryptomgr.notests", "console=ttyS0", "reboot=t", "panic=-1"]
        words.append(f"tsc_early_khz={tsc_khz()}")
        words.append("reconciler.layers=" + ",".join([*serials, *filter(None, [self.missing])]))
        words.append("reconciler.net=user")
        disks = [(serial, path, "on") for serial, path in reversed(serials.items())]
        if self.volume is not None:
            disks.insert(0, ("vol-data", self.volume, "off"))
            words.append("reconciler.mount=vol-data:/var/lib/app:ext4")
        # fmt: off
        argv = [
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
            "-M", "microvm,acpi=on,pic=off,pit=off,rtc=on,isa-serial=on",
            "-accel", "tcg,tb-size=64", "-cpu", "max", "-smp", "1", "-m", "256M", "-no-reboot",
            "-device", "pvpanic", "-action", "panic=exit-failure",
            "-kernel", str(self.images.kernel), "-initrd", str(self.images.initrd),
            "-append", " ".join(words),
            "-fw_cfg", "name=opt/org.reconciler/instance,string=web-g1-abc",
            "-netdev", f"user,id=net0,hostfwd=tcp:127.0.0.1:{self.port}-:80",
            "-device", "virtio-net-device,netdev=net0",
            "-chardev", f"file,id=console,path={self.console}", "-serial", "chardev:console",
            "-qmp", f"unix:{self.qmp},server=on,wait=off",
        ]
        for serial, path, read_only in disks:
            argv += ["-drive", f"if=none,id={serial},format=raw,read-only={read_only},file={path}"]
            argv += ["-device", f"virtio-blk-device,drive={serial},serial={serial}"]
        # fmt: on
        return argv

    @property
    def console(self) -> Path:
        return self.folder / "console.log"

    @property
    def qmp(self) -> Path:
        return self.folder / "qmp.sock"

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        process = subprocess.Popen(self.argv(), stdin=subprocess.DEVNULL)
        try:
            yield process
        finally:
            process.kill()
            process.wait(10)

    def ask(self, path: str, body: str | None = None) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET" if body is None else "POST", path, body)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def wait_healthy(self) -> None:
        def healthy() -> bool:
            try:
                return self.ask("/healthz") == (200, "ok\n")
            except (OSError, http.client.HTTPException):
                return False

        wait_until(healthy, BOOT_SECONDS, f"healthy; {self.said()[-2000:]}")

    def press_power_button(self) -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self.qmp))
            with connection.makefile("rw") as lines:
                lines.readline()
                for command in ("qmp_capabilities", "system_powerdown"):
                    lines.write(json.dumps({"execute": command}) + "\n")
                    lines.flush()
                    lines.readline()

    def said(self) -> str:
        return self.console.read_text(errors="replace") if self.console.exists() else ""


def test_a_guest_serves_its_layers_and_ends_cleanly_on_the_power_button(
    images: Images, tmp_path: Path
) -> None:
    guest = Guest(images, tmp_path)
    with guest.running() as process:
        guest.wait_healthy()
        assert guest.ask("/") == (200, "from the top\n")
        assert guest.ask("/cgi-bin/instance") == (200, "web-g1-abc\n")
        guest.press_power_button()
        assert process.wait(STOP_SECONDS) == 0
    assert "power button: shutting down" in guest.said()
    assert "Power down" in guest.said()


def test_a_volume_keeps_its_data_through_a_shutdown_and_through_a_kill(
    images: Images, tmp_path: Path
) -> None:
    volume = tmp_path / "data.raw"
    with volume.open("wb") as file:
        file.truncate(32 << 20)
    subprocess.run(["mkfs.ext4", "-q", volume], check=True, timeout=20)
    guest = Guest(images, tmp_path, layers=("base", "db"), volume=volume)
    with guest.running() as process:
        guest.wait_healthy()
        assert guest.ask("/cgi-bin/records", "one") == (200, "records: 1\n")
        guest.press_power_button()
        assert process.wait(STOP_SECONDS) == 0
    assert superblock(volume)["Filesystem state"] == "clean"
    assert "needs_recovery" not in superblock(volume)["Filesystem features"]
    with guest.running() as process:
        guest.wait_healthy()
        assert guest.ask("/cgi-bin/records", "two") == (200, "records: 2\n")
        process.kill()
        process.wait(10)
    with guest.running():
        guest.wait_healthy()
        assert guest.ask("/cgi-bin/records") == (200, "one\ntwo\n")


def superblock(volume: Path) -> dict[str, str]:
    shown = subprocess.run(
        ["dumpe2fs", "-h", volume], check=True, capture_output=True, text=True, timeout=20
    ).stdout
    lines = [line.partition(":") for line in shown.splitlines()]
    return {name: value.strip() for name, _, value in lines}


def test_a_panic_ends_the_vmm_with_a_failure(images: Images, tmp_path: Path) -> None:
    guest = Guest(images, tmp_path)
    with guest.running() as process:
        guest.wait_healthy()
        with pytest.raises((OSError, http.client.HTTPException)):
            guest.ask("/cgi-bin/panic")
        assert process.wait(STOP_SECONDS) != 0
    assert "Kernel panic" in guest.said()


def test_a_guest_that_cannot_stack_its_layers_says_why_and_ends_with_a_failure(
    images: Images, tmp_path: Path
) -> None:
    guest = Guest(images, tmp_path, missing="layer7")
    with guest.running() as process:
        assert process.wait(BOOT_SECONDS) != 0
    assert "reconciler-init: FAILED: no disk has the serial layer7" in guest.said()
