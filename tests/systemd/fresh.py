"""A Debian of this machine's release with nothing on it but systemd, as a new server has it."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAKING = 600.0
"""Seconds. The first time debootstrap takes a minute; then it is unpacked in two seconds."""
INSTALLING = 300.0
A_SERVER = ("systemd", "systemd-sysv", "dbus")
"""What is on every Debian that boots, and not in debootstrap's smallest."""
ENVIRONMENT = (
    *("PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"),
    *("LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"),
)


def unpack(folder: Path) -> None:
    """Into a folder that is not there yet. Raises AssertionError with what the tools said."""
    _run([str(ROOT / "dev"), "fresh", str(folder)], MAKING)
    _apt(folder, "update")
    _apt(folder, "install", "--no-install-recommends", *A_SERVER)


def _apt(folder: Path, *arguments: str) -> None:
    apt = ("apt-get", "-q", "-y", "-o", "Acquire::Retries=3", *arguments)
    # Mounts, and services that a package might start, are in namespaces and go with them.
    within = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
    chroot = ("chroot", str(folder), "env", "-i", *ENVIRONMENT, *apt)
    _run([*within, *chroot], INSTALLING)


def _run(argv: list[str], timeout: float) -> None:
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
    )
    said = f"{' '.join(argv)}: {done.returncode}\n{done.stdout}{done.stderr}"
    assert done.returncode == 0, said
