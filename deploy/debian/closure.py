"""The part of requirements.lock that the daemon needs at run time, for pip."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]


def closure(name: str) -> set[str]:
    """A package and what it needs, as the environment that runs this has them."""
    found: set[str] = set()
    todo = [name]
    while todo:
        one = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        if one in found:
            continue
        found.add(one)
        for text in importlib.metadata.requires(one) or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                todo.append(requirement.name)
    return found


def main() -> None:
    wanted = closure("microvm-reconciler")
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    for block in re.split(r"\n(?=\S)", lock):
        if re.split(r"[=\s]", block, maxsplit=1)[0].lower() in wanted:
            sys.stdout.write(f"{block.rstrip()}\n")


if __name__ == "__main__":
    main()
