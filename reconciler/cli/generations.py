"""Generations of a VM: `history`, `diff` and `rollback`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli.daemon_client import find_daemon
from reconciler.cli.operate import send
from reconciler.cli.options import ConfigOption, Output, OutputOption, SocketOption, VMArgument
from reconciler.cli.terminal import age, console, count, say, short, wall
from reconciler.control.reports import BlockedBrief, DiffAnswer, GenerationBrief, HistoryAnswer
from reconciler.control.serialization import encode
from reconciler.model.record import Evidence
from reconciler.safe_text import clean

if TYPE_CHECKING:
    from rich.console import Console

GenerationArgument = Annotated[int, typer.Argument(min=1, help="Number of a generation.")]
CONSOLE_LINES = 5
"""Lines of a condemned generation's console; `why` and `-o json` show all that were kept."""
VERDICT_STYLES = {"committed": "green", "condemned": "red", "trial": "yellow"}
INDENT = "  "


def register(app: typer.Typer) -> None:
    for command in (history, diff, rollback):
        app.command()(command)


def history(
    vm: VMArgument,
    socket: SocketOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.text,
) -> None:
    """List a VM's generations with their verdicts, newest first.

    Then blocked digests with their evidence, and what else holds the VM.
    """
    answer = find_daemon(socket, config).get(HistoryAnswer, "history", vm)
    if output is Output.json:
        typer.echo(encode(answer, indent=2))
        return
    show_history(answer, console(), wall())


def show_history(answer: HistoryAnswer, out: Console, now: float) -> None:
    """Print the generations as a table, then what blocks or holds the VM."""
    from rich.table import Table  # noqa: PLC0415 - only text output pays for it
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("GEN", justify="right", no_wrap=True)
    for name in ("VERDICT", "REVISION", "CREATED", "DIGEST"):
        table.add_column(name, no_wrap=True)
    table.add_column("REASON", overflow="fold")
    for item in answer.generations:
        table.add_row(
            str(item.number),
            Text(clean(item.verdict), VERDICT_STYLES.get(item.verdict, "")),
            short(item.revision),
            f"{age(now - item.created_wall)} ago",
            short(item.digest),
            _reason(item),
        )
    if answer.generations:
        out.print(table)
    else:
        out.print(f"{clean(answer.vm)} has no generations yet")
    _show_exceptions(answer, out, now)


def _reason(item: GenerationBrief) -> str:
    evidence = item.evidence
    parts = [item.reason]
    if evidence:
        parts += [part for part in (evidence.probe, evidence.exit) if part not in item.reason]
    return clean("; ".join(part for part in parts if part))


def _show_exceptions(answer: HistoryAnswer, out: Console, now: float) -> None:
    for blocked in answer.blocked:
        show_condemned(blocked, out, now, answer.vm, lines=CONSOLE_LINES)
    if answer.blocked:
        out.print(
            f"a new digest, corrected checks if those failed, or `reconciler retry"
            f" {clean(answer.vm)}` lifts it", style="dim",
        )  # fmt: skip
    for refused in answer.refused_checks:
        past = " (no longer asked for)" if refused.withdrawn else ""
        out.print(
            f"refused: the changed checks of revision {short(refused.revision)},"
            f" {age(now - refused.last_wall)} ago{past}: {clean(refused.reason)}",
            style="dim" if refused.withdrawn else "red", soft_wrap=True,
        )  # fmt: skip
    if answer.pinned is not None:
        out.print(f"kept at generation {answer.pinned} by request, until a new digest or `resume`")
    if answer.quarantine:
        out.print(f"quarantined: {clean(answer.quarantine)}", style="red")
    if answer.suspended:
        out.print(f"suspended: {clean(answer.suspended)}", style="yellow")


def diff(
    vm: VMArgument,
    a: GenerationArgument,
    b: GenerationArgument,
    socket: SocketOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Show what changed between two generations."""
    answer = find_daemon(socket, config).get(DiffAnswer, "diff", vm, a=a, b=b)
    if output is Output.json:
        typer.echo(encode(answer, indent=2))
        return
    if not answer.changes:
        typer.echo(f"generations {a} and {b} of {clean(vm)} do not differ")
    for change in answer.changes:
        typer.echo(clean(str(change)))
        for line in change.inside:
            typer.echo(f"{INDENT}{clean(line)}")


def rollback(
    vm: VMArgument,
    to: Annotated[
        int | None,
        typer.Option(
            "--to", min=1, help="Number of the generation; by default the one before the last good."
        ),
    ] = None,
    socket: SocketOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Go back to a committed generation.

    The VM stays there until its digest changes, or until `resume`.
    """
    send(socket, config, output, {"op": "rollback", "vm": vm, "to": to})


def show_condemned(blocked: BlockedBrief, out: Console, now: float, vm: str, *, lines: int) -> None:
    """Print one condemned digest of `vm`, with the last `lines` of its console."""
    of = f" of revision {short(blocked.revision)}" if blocked.revision else ""
    say(
        out,
        f"blocked: digest {short(blocked.digest)} (generation {blocked.generation}{of}), "
        f"{_attempts(blocked, now)}: {clean(blocked.reason)}",
        "red",
    )
    if blocked.evidence is not None:
        show_evidence(blocked.evidence, out, vm, lines=lines, said=blocked.reason)


def _attempts(blocked: BlockedBrief, now: float) -> str:
    last = f"{age(now - blocked.last_wall)} ago"
    if blocked.attempts <= 1 or not blocked.first_wall:
        return last
    return f"{count(blocked.attempts, 'attempt')} from {age(now - blocked.first_wall)} to {last}"


def show_evidence(evidence: Evidence, out: Console, vm: str, *, lines: int, said: str = "") -> None:
    """Print evidence, without texts that the reason `said` contains already."""
    for label, text in (("checks", evidence.probe), ("ended", evidence.exit)):
        if text and text not in said:
            say(out, f"{INDENT}{label}: {clean(text)}", hang=4)
    if not evidence.console:
        out.print(f"{INDENT}its console: `reconciler logs {clean(vm)}`", style="dim")
        return
    out.print(f"{INDENT}the end of its console:", style="dim")
    for line in evidence.console[-lines:]:
        say(out, INDENT * 2 + clean(line), hang=6)
