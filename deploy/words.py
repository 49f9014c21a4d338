"""The manual page and the shells' completions, with the commands as the command line itself has them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main
from typer.completion import get_completion_script

from reconciler.cli.app import build
from reconciler.cli.completion import COMPLETE

DEPLOY = Path(__file__).resolve().parent
SHELLS = ("bash", "zsh", "fish")


def commands() -> dict[str, Any]:
    found: dict[str, Any] = typer.main.get_command(build([])).commands  # type: ignore[attr-defined]
    return found


def manual() -> str:
    text = (DEPLOY / "man/reconciler.1.in").read_text(encoding="utf-8")
    entries = (_entry(name, command) for name, command in _named(commands()))
    return text.replace("@COMMANDS@", "\n".join(entries))


def _named(known: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each command by its name; of one with commands of its own these, as `images ls`."""
    for name, command in known.items():
        inner = getattr(command, "commands", None)
        if inner is None:
            yield name, command
        else:
            yield from ((f"{name} {part}", own) for part, own in _named(inner))


def completion(shell: str) -> str:
    """Typer's own: it asks the command itself, which knows its options and asks the daemon for names."""
    script = get_completion_script(prog_name="reconciler", complete_var=COMPLETE, shell=shell)
    if shell == "zsh":  # which loads the file at the first use, and wants an answer then, too
        script += '\n_reconciler_completion "$@"'
    return f"{script}\n"


def _entry(name: str, command: Any) -> str:
    arguments = "".join(
        f" {_shown(p)}" if p.required else f" [{_shown(p).strip('[]')}]"
        for p in command.params
        if p.param_type_name == "argument"
    )
    text = [f'.TP\n.B "{name}{arguments}"', rf"\&{_plain(command.help)}"]
    options = [p for p in command.params if p.param_type_name == "option"]
    if options:
        text += [".RS", *(line for p in options for line in _option(p)), ".RE"]
    return "\n".join(text)


def _shown(argument: Any) -> str:
    name: str = argument.human_readable_name
    return name if "[" in name else name.upper()


def _option(option: Any) -> Iterator[str]:
    names = ", ".join([*option.opts, *option.secondary_opts]).replace("-", r"\-")
    kind = "" if option.is_flag or option.count else f" {option.make_metavar(_context())}"
    yield f'.TP\n.B "{names}{kind}"'
    yield rf"\&{_plain(option.help)}"


def _context() -> Any:
    return typer.Context(typer.main.get_command(build([])))


def _plain(text: str | None) -> str:
    """The first paragraph. A line of troff that begins with a dot or a quote would be an order to it."""
    lines = [line.strip() for line in (text or "").split("\n\n")[0].splitlines()]
    return " ".join(lines).replace("\\", r"\e").replace("-", r"\-")


def main(what: str, *of: str) -> None:
    sys.stdout.write({"manual": manual, "completion": completion}[what](*of))


if __name__ == "__main__":
    main(*sys.argv[1:])
