"""A Debian disk as clouds have them, made of packages: cloud-init, and a boot loader for BIOS and for UEFI.

One partition is FAT, with systemd-boot, syslinux, kernel and initrd; the other is ext4, with the rest. Nothing is
mounted for it. It is kept in `.cache/`, by a digest of this file.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = {
    "mmdebstrap": "mmdebstrap", "qemu-img": "qemu-utils", "xorriso": "xorriso", "mcopy": "mtools",
    "mkfs.vfat": "dosfstools", "sfdisk": "fdisk", "mke2fs": "e2fsprogs", "syslinux": "syslinux",
}  # fmt: skip
"""What the disk is made with, or used with, by the packages of Debian."""
OVMF = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
INSIDE = (
    "linux-image-cloud-amd64", "initramfs-tools", "systemd-sysv", "dbus", "udev", "libpam-systemd",
    "cloud-init", "iproute2", "systemd-boot-efi", "syslinux-common",
)  # fmt: skip
MAKING = 900.0
"""Seconds; a minute or two on an idle machine."""
FAT_MIB, ROOT_MIB, SECTOR = 64, 1400, 512
UUID = "7265636f-6e63-4c69-8572-0000000000d1"
CMDLINE = f"root=UUID={UUID} rw console=ttyS0 quiet panic=-1 net.ifnames=0"
LOADER = "timeout 0\ndefault linux\n"
ENTRY = f"title linux\nlinux /vmlinuz\ninitrd /initrd.img\noptions {CMDLINE}\n"
SYSLINUX = (
    f"DEFAULT linux\nPROMPT 0\nLABEL linux\nLINUX /vmlinuz\nINITRD /initrd.img\nAPPEND {CMDLINE}\n"
)
# Only what such a disk needs, as it is unpacked under emulation.
MODULES = "virtio_pci\nvirtio_blk\next4\n"
# Nothing is asked of networks for the seed; and of all that cloud-init does at a boot, what the tests ask for.
SETTINGS = """\
datasource_list: [NoCloud, None]
cloud_init_modules: [write-files, set_hostname, mounts]
cloud_config_modules: [runcmd]
cloud_final_modules: [scripts-user]
"""
QUIET = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer",
    "fstrim.timer", "systemd-networkd-wait-online.service", "getty@tty1.service",
    "serial-getty@ttyS0.service", "e2scrub_reap.service",
)  # fmt: skip


def cloud_disk() -> Path:
    """The disk, as a qcow2. Skips the test where it cannot be made."""
    lacking = [package for name, package in PROGRAMS.items() if shutil.which(name) is None]
    if not OVMF.exists():
        lacking.append("ovmf")
    if os.geteuid() != 0 or lacking:
        pytest.skip(f"root, and apt-get install {' '.join(lacking)}: a cloud disk cannot be made")
    digest = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    kept = ROOT / ".cache" / f"cloud-disk-{digest}.qcow2"
    if not kept.exists():
        kept.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="rc-disk-") as folder:
            made = _make(Path(folder))
            shutil.copy(made, kept.with_suffix(".new"))
        kept.with_suffix(".new").replace(kept)
    return kept


def _make(folder: Path) -> Path:
    root, fat, ext4, disk = (folder / name for name in ("root", "fat.img", "ext4.img", "disk.img"))
    _bootstrap(root)
    _write_fat(folder, root, fat)
    shutil.rmtree(root / "boot")
    (root / "boot").mkdir()
    _run("mke2fs", "-q", "-t", "ext4", "-U", UUID, "-d", root, ext4, f"{ROOT_MIB}M")
    _write_disk(disk, fat, ext4, (root / "usr/lib/syslinux/mbr/mbr.bin").read_bytes())
    _run("syslinux", "--offset", 2048 * SECTOR, "--install", disk)
    made = folder / "disk.qcow2"
    _run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", disk, made)
    return made


def _bootstrap(root: Path) -> None:
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    sources = Path("/etc/apt/sources.list.d/debian.sources")
    modules = "$1/usr/share/initramfs-tools/modules.d/reconciler"
    only = "$1/etc/initramfs-tools/conf.d/reconciler"
    _run(
        "mmdebstrap", "--variant=minbase", "--mode=root", f"--include={','.join(INSIDE)}",
        f'--essential-hook=mkdir -p "{Path(modules).parent}" "{Path(only).parent}"',
        f"--essential-hook=printf '%s' '{MODULES}' > \"{modules}\"",
        f'--essential-hook=echo MODULES=list > "{only}"',
        suite, root, sources if sources.exists() else "/etc/apt/sources.list",
    )  # fmt: skip
    _run("systemctl", f"--root={root}", "mask", "--quiet", *QUIET)
    _run("systemctl", f"--root={root}", "enable", "--quiet", "systemd-networkd")
    (root / "etc/cloud/cloud.cfg.d/99_seed.cfg").write_text(SETTINGS)
    (root / "etc/machine-id").write_text(f"{uuid.UUID(UUID).hex}\n")
    shutil.rmtree(root / "var/cache/apt", ignore_errors=True)


def _write_fat(folder: Path, root: Path, image: Path) -> None:
    """The partition that both kinds of firmware read."""
    texts = {"loader.conf": LOADER, "linux.conf": ENTRY, "syslinux.cfg": SYSLINUX}
    for name, text in texts.items():
        (folder / name).write_text(text)
    (kernel,), (initrd,) = (root / "boot").glob("vmlinuz-*"), (root / "boot").glob("initrd.img-*")
    with image.open("wb") as file:
        file.truncate(FAT_MIB << 20)
    _run("mkfs.vfat", "-F", "32", "-h", 2048, image)
    _run("mmd", "-i", image, "EFI", "EFI/BOOT", "loader", "loader/entries")
    for source, target in (
        (root / "usr/lib/systemd/boot/efi/systemd-bootx64.efi", "EFI/BOOT/BOOTX64.EFI"),
        (folder / "loader.conf", "loader/loader.conf"),
        (folder / "linux.conf", "loader/entries/linux.conf"),
        (folder / "syslinux.cfg", "syslinux.cfg"),
        (kernel, "vmlinuz"),
        (initrd, "initrd.img"),
    ):
        _run("mcopy", "-i", image, source, f"::{target}")


def _write_disk(disk: Path, fat: Path, ext4: Path, boot_code: bytes) -> None:
    with disk.open("wb") as file:
        file.truncate((1 + FAT_MIB + ROOT_MIB + 1) << 20)
    sectors = FAT_MIB << 11
    table = f"label: dos\n2048,{sectors},ef,*\n{2048 + sectors},{ROOT_MIB << 11},83\n"
    _run("sfdisk", "--quiet", disk, given=table)
    for image, begin in ((fat, 2048), (ext4, 2048 + sectors)):
        _run("dd", f"if={image}", f"of={disk}", "bs=1M", f"seek={begin >> 11}",
             "conv=notrunc,sparse", "status=none")  # fmt: skip
    with disk.open("r+b") as file:
        file.write(boot_code[:440])


def _run(*words: object, given: str = "") -> None:
    done = subprocess.run(
        [str(word) for word in words], input=given, capture_output=True, text=True,
        timeout=MAKING, check=False, env={**os.environ, "LC_ALL": "C"},
    )  # fmt: skip
    assert done.returncode == 0, f"{words[0]}: {done.returncode}\n{done.stdout}{done.stderr}"
