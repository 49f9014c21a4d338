"""Enters cgroups of its own, then becomes another program: enter.py CGROUP... -- PROGRAM ARGUMENT..."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main(arguments: list[str]) -> None:
    middle = arguments.index("--")
    for cgroup in map(Path, arguments[:middle]):
        cgroup.mkdir(exist_ok=True)
        (cgroup / "cgroup.procs").write_text(str(os.getpid()))
    program = arguments[middle + 1 :]
    os.execvp(program[0], program)  # noqa: S606 - the caller's own words


if __name__ == "__main__":
    main(sys.argv[1:])
