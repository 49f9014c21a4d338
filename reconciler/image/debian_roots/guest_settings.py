"""What a base has beside its packages, and what is taken out of every root that was made.

A guest's root is read-only layers below a RAM disk; the initrd sets name, addresses and machine id.
"""

from __future__ import annotations

import shutil
from pathlib import Path

PACKAGES = ("systemd-sysv", "dbus")
"""Of a base: an init, and the bus by which it is asked. The initrd brings what hears the power button."""
NOTHING = "/dev/null"
UNITS = "etc/systemd/system"
MASKED = (
    # Without udev a terminal's device never becomes ready, and would hold up the boot for 90 s.
    "etc/systemd/system-generators/systemd-getty-generator",
    f"{UNITS}/getty@tty1.service",
    # The packages of a guest are those of its layers.
    f"{UNITS}/apt-daily.timer",
    f"{UNITS}/apt-daily-upgrade.timer",
    f"{UNITS}/dpkg-db-backup.timer",
    f"{UNITS}/e2scrub_all.timer",
    f"{UNITS}/e2scrub_reap.service",
    f"{UNITS}/fstrim.timer",
    # What these write is gone with the RAM disk.
    f"{UNITS}/systemd-random-seed.service",
    f"{UNITS}/systemd-update-utmp.service",
    f"{UNITS}/systemd-update-utmp-runlevel.service",
    # The initrd did what these are for.
    f"{UNITS}/systemd-networkd-wait-online.service",
    f"{UNITS}/systemd-remount-fs.service",
)
FILES = {
    # What services print is what `reconciler logs` shows.
    "etc/systemd/journald.conf.d/50-console.conf": """\
[Journal]
Storage=volatile
RuntimeMaxUse=16M
ForwardToConsole=yes
TTYPath=/dev/console
MaxLevelConsole=info
""",
    "etc/systemd/system.conf.d/50-guest.conf": """\
[Manager]
ShowStatus=no
LogLevel=notice
DefaultTimeoutStopSec=30s
""",
}
DEFAULT_TARGET = f"{UNITS}/default.target"
MULTI_USER = "/lib/systemd/system/multi-user.target"
TAKEN_OUT = (
    "etc/resolv.conf",
    "etc/hostname",
    "etc/fstab",
    "etc/apt/sources.list",
    "etc/apt/sources.list.d/*",
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
    "etc/passwd-",
    "etc/group-",
    "etc/shadow-",
    "etc/gshadow-",
    "etc/.pwd.lock",
    "var/lib/apt/lists/*",
    "var/lib/apt/extended_states.*",
    "var/cache/apt/*.bin",
    "var/cache/apt/archives/*",
    "var/cache/debconf/*-old",
    "var/cache/ldconfig/*",
    "var/lib/dpkg/*-old",
    "var/lib/dpkg/lock*",
    "var/lib/dpkg/triggers/Lock",
    "var/lib/systemd/random-seed",
    "var/lib/systemd/catalog/database",
    "var/log/*.log",
    "var/log/apt/*",
    "var/log/journal/*",
)
MACHINE_ID, BUS_MACHINE_ID = "etc/machine-id", "var/lib/dbus/machine-id"


def set_up_base(root: Path) -> None:
    """Make a root that was just bootstrapped the base of guests."""
    for name in MASKED:
        _link(root / name, NOTHING)
    _link(root / DEFAULT_TARGET, MULTI_USER)
    for name, content in FILES.items():
        _write(root / name, content, 0o644)


def take_out(root: Path) -> None:
    """Remove what differs from build to build, and what is this host's."""
    for pattern in TAKEN_OUT:
        for path in root.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    # Empty, so that no boot counts as the first one, which would enable services unasked.
    machine_id = root / MACHINE_ID
    if machine_id.is_symlink() or not machine_id.is_file() or machine_id.stat().st_size:
        machine_id.unlink(missing_ok=True)
        _write(machine_id, "", 0o444)
    if (root / BUS_MACHINE_ID).parent.is_dir():
        _link(root / BUS_MACHINE_ID, f"/{MACHINE_ID}")


def versions(root: Path) -> dict[str, str]:
    """The version of every package that is installed, by name."""
    found = {}
    text = (root / "var/lib/dpkg/status").read_text(encoding="utf-8", errors="replace")
    for stanza in text.split("\n\n"):
        fields = dict(
            line.split(": ", 1)
            for line in stanza.splitlines()
            if line.startswith(("Package: ", "Status: ", "Version: "))
        )
        if fields.get("Status", "").endswith(" installed"):
            found[fields["Package"]] = fields["Version"]
    return found


def _link(path: Path, target: str) -> None:
    if path.is_symlink() and str(path.readlink()) == target:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _write(path: Path, content: str, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="ascii")
    path.chmod(mode)
