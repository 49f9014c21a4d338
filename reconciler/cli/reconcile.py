"""`reconcile`: fetch and act now, and with `--wait` report the result."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated

import typer

from reconciler.cli import completion
from reconciler.cli.daemon_client import Daemon, find_daemon
from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.options import ConfigOption, Output, OutputOption, SocketOption
from reconciler.cli.terminal import count, short
from reconciler.control.serialization import encode
from reconciler.engine.api import ReconcileReport
from reconciler.safe_text import clean

FETCH_SECONDS = 120.0
"""Time limit for reading the source, in addition to the requested wait."""
WORDS = {
    "converged": "applied, and healthy",
    "unchanged": "changes no VM",
    "working": "still at work",
    "waiting": "waits for a person",
    "failed": "failed",
    "rolled-back": "rolled back: the change failed, the last good generation is kept",
    "rollback-failed": "the rollback failed too: a person must act",
    "superseded": "superseded by newer revisions",
}
EXITS = {
    "converged": ExitCode.OK,
    "unchanged": ExitCode.OK,
    "failed": ExitCode.ERROR,
    "rolled-back": ExitCode.ROLLED_BACK,
    "rollback-failed": ExitCode.ROLLBACK_FAILED,
}
HINTS = {
    "working": "`reconciler status --watch` shows the progress",
    "waiting": "`reconciler why VM` says what to do",
    "superseded": "run `reconciler reconcile --wait` again to judge the newest revision",
    "failed": "`reconciler status` and `reconciler events` say more",
    "rolled-back": "`reconciler history VM` has the evidence; push a fix, or `reconciler retry VM`",
    "rollback-failed": "`reconciler logs VM` and `reconciler history VM` have the evidence",
}


def register(app: typer.Typer) -> None:
    app.command()(reconcile)


def reconcile(
    subject: Annotated[
        str | None,
        typer.Argument(
            metavar="[VM|GROUP]",
            help="With --wait: judge this one, whichever revision changed it; else all that the revision changed.",
            show_default=False,
            autocompletion=completion.subjects,
        ),
    ] = None,
    *,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait", "-w", help="Wait until everything that changed is healthy, or failed."
        ),
    ] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, max=3600, help="Seconds to wait at most.")
    ] = 600.0,
    socket: SocketOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Fetch and act now; with --wait, until what the revision changed is healthy or failed.

    Exit 0: applied (or started), 4: rolled back, 5: the rollback failed, 1: failed or not done in time.
    """
    if subject is not None and not wait:
        raise typer.BadParameter("a VM or group needs --wait", param_hint="[VM|GROUP]")
    daemon = find_daemon(socket, config)
    body: dict[str, object] = {"wait": wait, "timeout": timeout}
    if subject is not None:
        body["subject"] = subject
    with _progress(daemon, shown=wait and output is Output.text) as progress:
        report = daemon.post_while(
            ReconcileReport, "reconcile", body, progress, FETCH_SECONDS + (timeout if wait else 0.0)
        )
    if output is Output.json:
        typer.echo(encode(report, indent=2))
    else:
        typer.echo(sentence(report, named=subject is not None))
        for trouble in report.beside:
            typer.echo(f"not caused by it: {clean(trouble)}")
        if (wait or report.result != "working") and (hint := HINTS.get(report.result)):
            typer.echo(f"hint: {hint}", err=True)
    raise typer.Exit(exit_code(report, wait=wait))


def exit_code(report: ReconcileReport, *, wait: bool) -> ExitCode:
    """The exit code for a report; `wait`: an unfinished result is an error."""
    if report.result in ("working", "waiting"):
        return ExitCode.ERROR if wait else ExitCode.OK
    return EXITS.get(report.result, ExitCode.ERROR)


def sentence(report: ReconcileReport, *, named: bool = False) -> str:
    """A report as one line. `named`: it is about a VM or group that was given on the command line."""
    where = f"revision {short(report.revision)}: " if report.revision else ""
    why = f" ({clean(report.why)})" if report.why and report.result != "unchanged" else ""
    seen = ""
    if report.changed:  # not "healthy": after a rollback all may be healthy without the change
        seen = f", {report.healthy} of {count(report.changed, 'VM' if named else 'changed VM')} took it"
    return f"{where}{WORDS.get(report.result, clean(report.result))}{seen}{why}"


def _progress(daemon: Daemon, *, shown: bool) -> AbstractContextManager[Callable[[], float]]:
    if not shown or not sys.stderr.isatty():
        return nullcontext(lambda: 3600.0)
    from reconciler.cli.progress import RolloutProgress  # noqa: PLC0415 - loads rich

    return RolloutProgress(daemon)
