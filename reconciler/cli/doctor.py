"""`doctor`: checks this host, and prints a remedy for each fault."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.options import ConfigOption, Output, OutputOption, SocketOption
from reconciler.cli.terminal import console, count
from reconciler.control.serialization import encode
from reconciler.safe_text import clean

if TYPE_CHECKING:
    from reconciler.cli.doctor_findings import Finding

STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red"}


def register(app: typer.Typer) -> None:
    app.command()(doctor)


def doctor(
    socket: SocketOption = None, config: ConfigOption = None, output: OutputOption = Output.text
) -> None:
    """Check this host, and print what is missing and how to fix it.

    Exit 1: something must be fixed.
    """
    from reconciler.cli.doctor_checks import examine  # noqa: PLC0415 - loads what it checks

    findings = examine(config, socket)
    if output is Output.json:
        ok = all(finding.result != "failed" for finding in findings)
        typer.echo(encode({"ok": ok, "checks": findings}, indent=2))
    else:
        _show(findings)
    if any(finding.result == "failed" for finding in findings):
        raise typer.Exit(ExitCode.ERROR)


def _show(findings: list[Finding]) -> None:
    from rich.table import Table  # noqa: PLC0415 - only text output pays for it
    from rich.text import Text  # noqa: PLC0415

    out = console()
    grid = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for finding in findings:
        result = Text(finding.result, STYLES[finding.result])
        grid.add_row(result, finding.name, clean(finding.detail))
        if finding.remedy:
            grid.add_row("", "", Text(f"fix: {clean(finding.remedy)}", "cyan"))
    out.print(grid)
    bad = sum(finding.result == "failed" for finding in findings)
    warned = sum(finding.result == "warning" for finding in findings)
    if bad or warned:
        out.print(f"{bad} to fix, {count(warned, 'warning')}")
    else:
        out.print("this host is ready")
