"""The part of requirements.lock that the daemon needs at run time, for pip."""

from __future__ import annotations

import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]


def closure(requirements: list[str]) -> set[str]:
    """What is required, and what that needs, as the environment that runs this has it."""
    found: set[str] = set()
    todo = list(requirements)
    while todo:
        requirement = Requirement(todo.pop())
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        if name not in found:
            found.add(name)
            todo += importlib.metadata.requires(name) or ()
    return found


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = closure(project["dependencies"])
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    for block in re.split(r"\n(?=\S)", lock):
        name = re.split(r"[=\s]", block, maxsplit=1)[0].lower()
        if name in wanted:
            wanted.remove(name)
            sys.stdout.write(f"{block.rstrip()}\n")
    if wanted:
        sys.exit(f"not in requirements.lock: {', '.join(sorted(wanted))}; run ./dev lock")


if __name__ == "__main__":
    main()
