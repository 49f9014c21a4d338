"""What a kernel bundle is put together from: packages, modules, a kernel, an archive."""

from __future__ import annotations

import gzip
import lzma
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.image import decompress as decompress_module
from reconciler.image.build_site import has_magic
from reconciler.image.decompress import decompress
from reconciler.image.initrd import initrd
from reconciler.image.inputs.busybox import GUEST, write_base
from reconciler.image.modules import Module, ModuleTree, read_recipe
from reconciler.image.vmlinux import boots_directly, unpack_kernel
from reconciler.model.image import DebianKernel, KernelSpec


def elf(note: bytes) -> bytes:
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return header + struct.pack("<IIQQQQQQ", 4, 0, 120, 0, 0, len(note), len(note), 4) + note


PVH = elf(struct.pack("<III4sQ", 4, 8, 18, b"Xen\0", 0x1000))


def bzimage(payload: bytes) -> bytes:
    setup = bytearray(1024)
    setup[0x1F1] = 1
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", setup, 0x248, 16, len(payload))
    return bytes(setup) + bytes(16) + payload + b"rest"


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """An unpacked kernel package: `net` needs `bus`, which needs `ring`; one of them is packed."""
    home = tmp_path / "lib/modules/6.1.0-test/kernel"
    home.mkdir(parents=True)
    (home.parent / "modules.builtin").write_text("kernel/fs/ext4/ext4.ko\n")
    for name, needs in {"virtio_net": "virtio-bus", "virtio-bus": "ring", "ring": ""}.items():
        content = b"\x7fELF.." + f"\0depends={needs}\0name={name}\0".encode()
        if name == "ring":
            (home / f"{name}.ko.xz").write_bytes(lzma.compress(content))
        else:
            (home / f"{name}.ko").write_bytes(content)
    return tmp_path


def test_modules_come_after_those_that_they_need(packages: Path) -> None:
    tree = ModuleTree(packages, packages)
    picked = tree.pick(
        read_recipe("# comment\n\nalways virtio-net\nalways ext4\npci ring\npci no?\n")
    )
    assert [(m.when, m.name) for m in picked] == [
        ("always", "ring"),
        ("always", "virtio-bus"),
        ("always", "virtio-net"),
    ]
    assert picked[0].content.startswith(b"\x7fELF")
    assert tree.release == "6.1.0-test"


def test_a_kernel_that_lacks_a_needed_module_is_refused(packages: Path) -> None:
    with pytest.raises(BuildFailed, match="no module erofs"):
        ModuleTree(packages, packages).pick(read_recipe("always erofs\n"))


def test_our_recipe_can_be_read() -> None:
    names = [wanted.name for wanted in read_recipe((GUEST / "initrd/modules").read_text())]
    assert names[0] == "pvpanic-mmio"
    assert {"virtio_blk", "erofs", "overlay", "button", "evdev"} <= set(names)


def test_the_initrd_is_an_archive_with_all_parts_and_always_the_same() -> None:
    modules = [Module("always", "a", b"1"), Module("always", "b", b"22"), Module("pci", "c", b"")]
    files = {"init": b"#!init\n", "power/PWRF/0": b"#!power\n", "systemd/up.service": b"[Unit]\n"}
    archive = initrd(files, b"busybox", modules, "6.1.0")
    assert archive == initrd(files, b"busybox", modules, "6.1.0")
    shown = subprocess.run(
        ["cpio", "-itv", "--quiet"], input=archive, check=True, capture_output=True, timeout=10
    ).stdout.decode()
    names = [line.split()[-1] for line in shown.splitlines()]
    assert names[-6:] == [
        "lib/modules/6.1.0/modules.dep",
        "lib/modules/6.1.0/a.ko",
        "lib/modules/6.1.0/b.ko",
        "lib/modules/6.1.0/c.ko",
        "modules/always",
        "modules/pci",
    ]
    assert "crw------- 1 root root 5, 1 Jan 1 1970 dev/console" in " ".join(shown.split())
    assert b"a b" in archive
    modes = {line.split()[-1]: line.split()[0] for line in shown.splitlines()}
    assert modes["init"] == modes["power/PWRF/0"] == "-rwxr-xr-x"
    assert modes["systemd/up.service"] == "-rw-r--r--"
    assert names.index("power") < names.index("power/PWRF") < names.index("power/PWRF/0")


def test_a_bundle_of_the_first_contract_has_the_key_of_before_there_were_contracts() -> None:
    key = "94adef98565bf3d7abeef56a98a612f8750a3c0c1a8cbdfd0a1401000f5653da"
    assert KernelSpec.of("debian", DebianKernel()).key == key
    later = {KernelSpec.of("debian", DebianKernel(contract=number)).key for number in (2, 3)}
    assert len({key, *later}) == 3


@pytest.mark.parametrize("pack", [gzip.compress, lambda data: lzma.compress(data) + bytes(4)])
def test_the_kernel_comes_out_of_its_wrapping(pack, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    assert unpack_kernel(bzimage(pack(PVH)), tmp_path) == PVH


@pytest.mark.parametrize("program", ["lz4", "zstd"])
def test_the_kernel_comes_out_of_what_a_program_packed(program: str, tmp_path: Path) -> None:
    argv = [program, "-l"] if program == "lz4" else [program]
    try:
        packed = subprocess.run(
            [*argv, "-c", "-q"], input=PVH, check=True, capture_output=True, timeout=10
        ).stdout
    except FileNotFoundError:
        pytest.skip(f"{program} is missing")
    assert unpack_kernel(bzimage(packed + bytes(4)), tmp_path) == PVH


@pytest.mark.parametrize(
    "image",
    [b"", b"MZ" + bytes(2000), bzimage(b"\x99unknown...."), bzimage(gzip.compress(elf(b"other")))],
)
def test_what_cannot_be_unpacked_or_boot_by_itself_is_left_as_it_is(
    image: bytes, tmp_path: Path
) -> None:
    assert unpack_kernel(image, tmp_path) is None


def test_a_kernel_with_the_entry_note_boots_directly() -> None:
    assert boots_directly(PVH)
    assert not boots_directly(b"MZ")


def test_broken_packed_data_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(BuildUnavailable, match="broken"):
        decompress(gzip.compress(b"data" * 100)[:20], tmp_path)


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress], ids=["gzip", "xz"])
def test_packed_data_that_is_too_much_is_not_unpacked_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr(decompress_module, "MOST_BYTES", 1000)
    assert decompress(pack(bytes(1000)), tmp_path) == bytes(1000)
    with pytest.raises(BuildUnavailable, match="larger than"):
        decompress(pack(bytes(1001)), tmp_path)


def test_the_base_links_all_applets_and_holds_no_other_names(tmp_path: Path) -> None:
    busybox = tmp_path / "busybox"
    busybox.write_bytes(b"static")
    root = tmp_path / "root"
    write_base(root, busybox, ["bin/sh", "sbin/init", "bin/busybox", "/etc/x", "../y", "linuxrc"])
    assert (root / "bin/busybox").read_bytes() == b"static"
    assert str((root / "sbin/init").readlink()) == "/bin/busybox"
    assert not (tmp_path / "y").is_symlink()
    assert (root / "etc/acpi/PWRF/00000080").stat().st_mode & 0o777 == 0o755
    assert (root / "etc/inittab").stat().st_mode & 0o777 == 0o644


@pytest.mark.shows(fault=117)
def test_the_base_has_what_daemons_look_up(tmp_path: Path) -> None:
    root = tmp_path / "root"
    busybox = tmp_path / "busybox"
    busybox.write_bytes(b"static")
    write_base(root, busybox, ["bin/sh"])
    users = {line.split(":")[0]: line.split(":") for line in lines_of(root / "etc/passwd")}
    assert users["root"][2:4] == ["0", "0"]
    assert "nobody" in users
    assert {"root", "tty", "nogroup"} <= {
        line.split(":")[0] for line in lines_of(root / "etc/group")
    }
    assert {line.split(":")[0] for line in lines_of(root / "etc/shadow")} == users.keys()
    assert (root / "etc/shadow").stat().st_mode & 0o777 == 0o600
    assert "localhost" in (root / "etc/hosts").read_text()
    assert (root / "var/spool/cron/crontabs").is_dir(), "crond ends without it"


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_scripts_of_the_guest_are_sound() -> None:
    scripts = [p for p in GUEST.rglob("*") if p.is_file() and p.read_bytes().startswith(b"#!")]
    assert len(scripts) >= 4
    for script in scripts:
        subprocess.run(["sh", "-n", script], check=True, timeout=5)


def test_an_image_is_told_by_its_magic() -> None:
    assert has_magic("erofs", bytes(1024) + b"\xe2\xe1\xf5\xe0")
    assert has_magic("squashfs", b"hsqs")
    assert not has_magic("erofs", b"hsqs")
