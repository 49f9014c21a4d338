"""Runs a program of an unpacked package with its own /usr/share/prometheus, in mounts of its own.

Debian's Alertmanager reads its templates from there and nowhere else, installed or not.
Called as `python -m tests.integration.unpacked SHARE PROGRAM ARGUMENT...` under `unshare --mount`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

OWN_MOUNTS = ("unshare", "--mount", "--propagation", "private")
TEMPLATES = Path("/usr/share/prometheus/alertmanager/default.tmpl")


def as_unpacked(arguments: list[str]) -> list[str]:
    """The command that runs this program, whether it was installed or only unpacked.

    Skips the test where it is only unpacked and mounts cannot be kept apart.
    """
    program = shutil.which(arguments[0])
    if TEMPLATES.exists() or program is None:
        return arguments
    share = Path(program).parents[1] / "share"
    launcher = [sys.executable, "-m", "tests.integration.unpacked", str(share)]
    if subprocess.run([*OWN_MOUNTS, "true"], check=False, capture_output=True).returncode:
        pytest.skip(f"{arguments[0]} is only unpacked, and no mounts of its own can be had here")
    return [*OWN_MOUNTS, *launcher, *arguments]


def main() -> None:
    share, program, *rest = sys.argv[1:]
    found = shutil.which(program) or program
    subprocess.run(["mount", "-t", "tmpfs", "none", "/usr/share"], check=True)
    # Some lead to libraries of the browser, in packages that are not here.
    shutil.copytree(Path(share) / "prometheus", "/usr/share/prometheus", symlinks=True)
    os.execv(found, [program, *rest])  # noqa: S606  # an argv, in place of this process


if __name__ == "__main__":
    main()
