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

TEMPLATES = Path("/usr/share/prometheus/alertmanager/default.tmpl")


def as_unpacked(arguments: list[str]) -> list[str]:
    """The command that runs this program, whether it was installed or only unpacked."""
    program = shutil.which(arguments[0])
    if TEMPLATES.exists() or program is None:
        return arguments
    share = Path(program).parents[1] / "share"
    launcher = [sys.executable, "-m", "tests.integration.unpacked", str(share)]
    return ["unshare", "--mount", "--propagation", "private", *launcher, *arguments]


def main() -> None:
    share, program, *rest = sys.argv[1:]
    found = shutil.which(program) or program
    subprocess.run(["mount", "-t", "tmpfs", "none", "/usr/share"], check=True)
    shutil.copytree(Path(share) / "prometheus", "/usr/share/prometheus")
    os.execv(found, [program, *rest])  # noqa: S606  # an argv, in place of this process


if __name__ == "__main__":
    main()
