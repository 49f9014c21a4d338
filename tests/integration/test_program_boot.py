"""Guests without the base: a program of an image, as our init runs it, and an init that is not ours."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reconciler.clock import SystemClock
from reconciler.image.build_site import mkfs_argv
from reconciler.image.debian_packages import Debian
from reconciler.image.inputs.busybox import fetch_busybox
from reconciler.image.program_part import ProgramSpec, write_program
from reconciler.image.store import ImageStore
from reconciler.model.image import DebianKernel, KernelSpec
from reconciler.model.layer_kinds.oci_layer import OciSource
from reconciler.source.git.clients import TreeExporter
from tests.integration.test_image_boot import BOOT_SECONDS, STOP_SECONDS, Guest, Images
from tests.registry.images import Entry, write_layer
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

INSTANCE = "web-g1-abc"
ARGUMENTS = ("", "two words", 'it\'s "quoted"', "$HOME `id` \\n *", "of two\nlines", "Grüße")
ODD_ENV = ("foo.bar=a  b", "EMPTY=", "QUOTE='\"", "HOME=/by/the/image")
REPORT = r"""
echo "user: $(id -u) $(id -g) $(id -G)"
echo "folder: $(pwd)"
echo "files: $(ls /proc/self/fd | tr '\n' ' ')"
for word in "$@"; do printf 'argument: %s\n' "$(printf %s "$word" | od -An -tx1 | tr -d ' \n')"; done
tr '\0' '\n' </proc/$$/environ | sed 's/^/variable: /'
echo "can write: $(: >/dev/stdout && : >/dev/shm/x && : >/tmp/x && echo all)"
(sleep 0.2 &)
sleep 1
echo "zombies: $(grep -l '^State:.Z' /proc/[0-9]*/status | wc -l)"
exit 3
"""
ACCOUNTS = {
    "etc/passwd": "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/false\n",
    "etc/group": "root:x:0:\napps:x:1001:\nextra:x:50:app\nmore:x:60:root,app",
}


@dataclass(frozen=True)
class Bench:
    """What all guests of these tests are made of."""

    kernel: tuple[Path, Path]
    busybox: Path


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return asyncio.run(make_bench(tmp_path_factory.mktemp("bench")))


async def make_bench(folder: Path) -> Bench:
    store = ImageStore(folder / "state", SystemClock())
    await store.open()
    try:
        kernel = KernelSpec.of("debian", DebianKernel(contract=OciSource.needs_contract))
        await store.build_kernel(kernel, TreeExporter(Path("/nowhere")))
        busybox = await fetch_busybox(Debian(), folder / "packages")
        return Bench(store.kernel_paths(kernel.key), busybox)
    finally:
        await store.close()


def guest_of(bench: Bench, folder: Path, files: Mapping[str, Any], spec: ProgramSpec) -> Guest:
    """A guest of an image with these files, all executable: text, bytes, or a file to copy."""
    image = folder / "image"
    for name, content in files.items():
        path = image / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.read_bytes() if isinstance(content, Path) else content
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        path.chmod(0o755)
    image.mkdir(exist_ok=True)
    write_program(spec, folder / "program.tar", bench.busybox)
    (folder / "program").mkdir()
    unpack = ["tar", "-xf", str(folder / "program.tar"), "--no-same-owner"]
    subprocess.run(unpack, check=True, timeout=20, cwd=folder / "program")
    layers = {}
    for name in ("image", "program"):
        layers[name] = folder / f"{name}.erofs"
        argv = mkfs_argv("erofs", str(layers[name]), str(folder / name), 0)
        subprocess.run(argv, check=True, timeout=60, capture_output=True)
    return Guest(Images(*bench.kernel, layers), folder, layers=("image", "program"))


def run_to_the_end(guest: Guest) -> tuple[int, str]:
    """The VMM's status when the guest ended by itself, and what it printed."""
    with guest.running() as process:
        status = process.wait(BOOT_SECONDS)
    return status, guest.said().replace("\r\n", "\n")


def reported(said: str, what: str) -> list[str]:
    return re.findall(rf"^{what}: (.*)$", said, re.MULTILINE)


def test_one_static_program_serves_without_anything_else_in_its_image(
    bench: Bench, tmp_path: Path
) -> None:
    spec = ProgramSpec.of(
        entrypoint=["/httpd"], cmd=["-f", "-v", "-p", "80"], user="33:44", working_dir="/www",
    )  # fmt: skip
    guest = guest_of(bench, tmp_path, {"httpd": bench.busybox, "www/healthz": "ok\n"}, spec)
    with guest.running() as process:
        guest.wait_healthy()
        assert f"reconciler-up: {INSTANCE}" in guest.said()
        assert "reconciler-handed-over" not in guest.said()
        guest.press_power_button()
        assert process.wait(STOP_SECONDS) == 0
    assert "power button: signal 15" in guest.said()
    assert "Power down" in guest.said()


def test_a_program_is_run_exactly_as_its_image_says(bench: Bench, tmp_path: Path) -> None:
    spec = ProgramSpec.of(
        entrypoint=["sh", "-c", REPORT, "report"], cmd=ARGUMENTS,
        env=["PATH=/tools", *ODD_ENV], user="app", working_dir="/not/there yet",
    )  # fmt: skip
    files = {"tools/sh": bench.busybox, **ACCOUNTS}
    status, said = run_to_the_end(guest_of(bench, tmp_path, files, spec))
    assert reported(said, "user") == ["1000 1001 1001 50 60"], said
    assert reported(said, "folder") == ["/not/there yet"]
    assert reported(said, "argument") == [word.encode().hex() for word in ARGUMENTS]
    assert sorted(reported(said, "variable")) == sorted(["PATH=/tools", "HOSTNAME=web", *ODD_ENV])
    assert reported(said, "files")[0].split() == ["0", "1", "2", "3"]  # 3 is that of ls itself
    assert reported(said, "can write") == ["all"]
    assert reported(said, "zombies") == ["0"]
    assert status != 0
    assert "reconciler-failed: program /tools/sh exited with status 3\n" in said


def test_a_program_that_is_done_turns_the_machine_off(bench: Bench, tmp_path: Path) -> None:
    guest = guest_of(bench, tmp_path, {"bin/true": bench.busybox}, ProgramSpec.of(cmd=["true"]))
    status, said = run_to_the_end(guest)
    assert status == 0
    assert "reconciler-program: /bin/true exited with status 0: powering off" in said
    assert "reconciler-failed" not in said


def test_the_stop_signal_of_the_image_reaches_the_program(bench: Bench, tmp_path: Path) -> None:
    script = "trap 'echo finishing; exit 7' QUIT; echo waiting; sleep 1000 & wait"
    spec = ProgramSpec.of(cmd=["/bin/sh", "-c", script], stop_signal="SIGQUIT")
    guest = guest_of(bench, tmp_path, {"bin/sh": bench.busybox}, spec)
    with guest.running() as process:
        wait_until(lambda: "waiting" in guest.said(), BOOT_SECONDS, "started")
        guest.press_power_button()
        assert process.wait(STOP_SECONDS) == 0
    assert "finishing" in guest.said()
    assert "ended with status 7, as it was asked to stop" in guest.said()
    assert "reconciler-failed" not in guest.said()


def test_an_empty_volume_takes_owner_and_content_of_the_folder_that_it_hides(
    bench: Bench, tmp_path: Path
) -> None:
    tar = write_layer(
        tmp_path / "image.tar",
        {
            "bin/": "",
            "bin/sh": Entry(bench.busybox.read_bytes(), 0o755),
            "var/": "", "var/lib/": "", "var/lib/app/": Entry(mode=0o2750, uid=1000, gid=1001),
            "var/lib/app/seed": Entry("of the image\n", 0o600, 1000, 1001),
            "etc/": "",
        },
    )  # fmt: skip
    image, volume = tmp_path / "image.squashfs", tmp_path / "data.raw"
    pack = ["mksquashfs", "-", str(image), "-tar", "-quiet", "-no-progress", "-root-mode", "755"]
    with tar.open("rb") as file:
        subprocess.run(pack, stdin=file, check=True, timeout=60, capture_output=True)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", str(volume), "32M"], check=True, timeout=60)
    script = "date >>seed; wc -l <seed; stat -c 'owner: %u:%g %a' .; echo files: $(ls -A); exit 0"
    spec = ProgramSpec.of(
        entrypoint=["/bin/sh", "-c", script], user="1000:1001", working_dir="/var/lib/app"
    )
    guest = guest_of(bench, tmp_path, {}, spec)
    guest.images.layers["image"] = image
    guest.volume = volume
    status, said = run_to_the_end(guest)
    assert status == 0, said
    assert reported(said, "owner") == ["1000:1001 2750"]
    assert reported(said, "files") == ["seed"]
    assert "\n2\n" in said
    status, said = run_to_the_end(guest)
    assert (status, "\n3\n" in said) == (0, True), said


OTHER_MACHINE = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xb7\x00" + bytes(100)


@pytest.mark.parametrize(
    ("files", "given", "said"),
    [
        ({}, {"cmd": ["/app"]}, "program /app: no such file in the image"),
        ({}, {"cmd": ["app"]}, "program app: not found in PATH"),
        ({"app": OTHER_MACHINE}, {"cmd": ["/app"]}, "program /app: made for another kind of processor"),
        ({"app": "#!/bin/bash\n"}, {"cmd": ["/app"]}, "whose interpreter /bin/bash is not in the image"),
        ({"app": "true\n"}, {"cmd": ["/app"]}, "neither an ELF program nor a script"),
        ({}, {"cmd": ["/app"], "user": "www"}, "the image's user www is not in its /etc/passwd"),
        ({}, {"cmd": ["/app"], "user": "1:www"}, "the image's group www is not in its /etc/group"),
    ],
)  # fmt: skip
def test_a_program_that_cannot_be_started_fails_the_start_with_a_reason(
    files: dict[str, Any], given: dict[str, Any], said: str, bench: Bench, tmp_path: Path
) -> None:
    spec = ProgramSpec.of(**given)
    status, console = run_to_the_end(guest_of(bench, tmp_path, files, spec))
    assert status != 0
    assert f"reconciler-init: FAILED: {said}" in console or said in console
    assert "reconciler-up" not in console


def test_an_init_that_is_not_ours_is_started_from_ext4_and_hears_the_power_button(
    bench: Bench, tmp_path: Path
) -> None:
    image = tmp_path / "image"
    for name in ("bin", "sbin", "etc"):
        (image / name).mkdir(parents=True)
    shutil.copy(bench.busybox, image / "bin/busybox")
    for link in ("bin/sh", "sbin/init", "sbin/poweroff"):
        (image / link).symlink_to("/bin/busybox")
    (image / "etc/inittab").write_text(
        "::sysinit:/bin/sh -c 'read -r name </etc/hostname; echo running $name'\n"
        "::shutdown:/bin/sh -c 'echo shutting down in order'\n"
    )
    disk = tmp_path / "image.ext4"
    make = ["mke2fs", "-q", "-t", "ext4", "-d", str(image), str(disk), "16M"]
    subprocess.run(make, check=True, timeout=60)
    guest = Guest(Images(*bench.kernel, {"image": disk}), tmp_path, layers=("image",))
    with guest.running() as process:
        wait_until(lambda: "running web" in guest.said(), BOOT_SECONDS, "started")
        guest.press_power_button()
        assert process.wait(STOP_SECONDS) == 0
    assert f"reconciler-handed-over: {INSTANCE}" in guest.said()
    assert "shutting down in order" in guest.said()
    assert "erofs" not in guest.said()


def test_an_image_of_no_known_format_is_refused_by_name(bench: Bench, tmp_path: Path) -> None:
    disk = tmp_path / "noise"
    disk.write_bytes(b"\xa5" * 65536)
    guest = Guest(Images(*bench.kernel, {"image": disk}), tmp_path, layers=("image",))
    status, said = run_to_the_end(guest)
    assert status != 0
    assert "FAILED: layer layer0 is not a readable erofs image" in said
