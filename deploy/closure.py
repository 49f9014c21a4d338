"""The part of requirements.lock that the daemon needs at run time, with what traces need, for pip. Needs Python alone."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def blocks(lock: str) -> dict[str, str]:
    """The lines of each locked package, by its name."""
    found = [block for block in re.split(r"\n(?=\w)", f"\n{lock}") if block[:1].isalnum()]
    return {normal(re.split(r"[=\s\[]", block, maxsplit=1)[0]): block for block in found}


def closure(wanted: set[str], locked: dict[str, str]) -> set[str]:
    """What is wanted and what that needs, as the lock's notes `# via` tell."""
    found = set(wanted)
    needed_by = {
        name: {normal(one) for one in re.findall(r"^ +#(?: via)? +([\w.-]+)$", block, re.MULTILINE)}
        for name, block in locked.items()
    }
    while more := {name for name, users in needed_by.items() if users & found} - found:
        found |= more
    return found


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = project["dependencies"] + project["optional-dependencies"]["tracing"]
    wanted = {normal(re.split(r"[^\w.-]", one, maxsplit=1)[0]) for one in asked}
    locked = blocks((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    if missing := wanted - locked.keys():
        sys.exit(f"not in requirements.lock: {', '.join(sorted(missing))}; run ./dev lock")
    for name in sorted(closure(wanted, locked)):
        sys.stdout.write(f"{locked[name].rstrip()}\n")


if __name__ == "__main__":
    main()
