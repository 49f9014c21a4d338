"""The manual page and the shell's completion, with the commands as the command line itself has them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer.main

from reconciler.cli.app import build

DEPLOY = Path(__file__).resolve().parent
NAMED = {"vm", "subject"}
"""Arguments that take the name of a VM."""


def commands() -> dict[str, Any]:
    found: dict[str, Any] = typer.main.get_command(build([])).commands  # type: ignore[attr-defined]
    return found


def manual() -> str:
    text = (DEPLOY / "man/reconciler.1.in").read_text(encoding="utf-8")
    return text.replace("@COMMANDS@", "\n".join(map(_entry, commands().values())))


def completion() -> str:
    text = (DEPLOY / "completion/reconciler.in").read_text(encoding="utf-8")
    naming = [name for name, one in commands().items() if _arguments(one) & NAMED]
    return text.replace("@COMMANDS@", " ".join(commands())).replace("@NAMING@", " | ".join(naming))


def _entry(command: Any) -> str:
    arguments = "".join(
        f" {p.human_readable_name.upper()}" if p.required else f" [{p.human_readable_name.upper()}]"
        for p in command.params
        if p.param_type_name == "argument"
    )
    lines = [line.strip() for line in (command.help or "").split("\n\n")[0].splitlines()]
    # A line of troff that begins with a dot or a quote would be an order to it.
    help_text = " ".join(lines).replace("\\", "\\e")
    return f'.TP\n.B "{command.name}{arguments}"\n\\&{help_text}'


def _arguments(command: Any) -> set[str]:
    return {p.name for p in command.params if p.param_type_name == "argument"}


def main(what: str) -> None:
    sys.stdout.write({"manual": manual, "completion": completion}[what]())


if __name__ == "__main__":
    main(*sys.argv[1:])
