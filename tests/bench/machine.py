"""What the figures were measured on and of: a figure without its machine is worth nothing."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pygit2

ROOT = Path(__file__).resolve().parents[2]
MIB = 1024 * 1024


def machine() -> dict[str, Any]:
    """Facts of this host and this checkout, without any path or name of the host."""
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MIB,
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
        "qemu": first_line("qemu-system-x86_64", "--version"),
        "git": first_line("git", "--version"),
        "pygit2": version("pygit2"),
        "commit": commit(),
        "load": load(),
    }


def load() -> str:
    """Load averages over 1, 5 and 15 minutes: others may work here too."""
    return " ".join(f"{one:.2f}" for one in os.getloadavg())


def cpu_model() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.machine()


def first_line(*command: str) -> str:
    """What a program says of its version; `none` where it is not installed."""
    if shutil.which(command[0]) is None:
        return "none"
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    return done.stdout.partition("\n")[0].strip()


def commit() -> str:
    """HEAD, and whether what is measured differs from it."""
    try:
        repository = pygit2.Repository(str(ROOT))
        head = str(repository.head.target)[:12]
    except (pygit2.GitError, KeyError):
        return "unknown"
    changed = [
        path
        for path, flags in repository.status(untracked_files="no").items()
        if path.startswith("reconciler/") and flags != pygit2.GIT_STATUS_CURRENT
    ]
    return f"{head}, {len(changed)} files changed" if changed else head


def resident_mib(pid: int) -> float:
    """VmRSS: what of a process is in memory now."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {pid} has no VmRSS: it has ended")
