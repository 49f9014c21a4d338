"""Requests about VMs: `retry`, `suspend`, `resume`, `restart`, `remove`, `adopt`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reconciler.cli import completion
from reconciler.cli.daemon_client import find_daemon
from reconciler.cli.options import ConfigOption, Output, OutputOption, SocketOption, VMArgument
from reconciler.cli.terminal import wall
from reconciler.control.responses import DoneAnswer
from reconciler.control.serialization import encode
from reconciler.safe_text import clean

SubjectArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="VM|GROUP",
        help="The whole host if left out; vm/NAME or group/NAME if a VM and a group have the name.",
        show_default=False,
        autocompletion=completion.subjects,
    ),
]
ReasonOption = Annotated[
    str, typer.Option("--reason", help="A reason that status shows.", show_default=False)
]


def register(app: typer.Typer) -> None:
    for command in (retry, suspend, resume, restart, remove, adopt):
        app.command()(command)


def send(socket: Path | None, config: Path | None, output: Output, body: dict[str, object]) -> None:
    """Send a request, and print what was done. Raises DaemonError if it is refused."""
    answer = find_daemon(socket, config).post(DoneAnswer, "request", body)
    typer.echo(encode(answer, indent=2) if output is Output.json else clean(answer.done))


def retry(
    vm: VMArgument,
    socket: SocketOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Try again what failed.

    Lifts condemned digests, holds, quarantine and failed builds of this VM.
    """
    send(socket, config, output, {"op": "retry", "vm": vm})


def suspend(
    subject: SubjectArgument = None,
    until: Annotated[
        str | None,
        typer.Option(
            "--until",
            metavar="DURATION|TIME",
            help="2h, 3d, or 2026-07-21T06:00:00+02:00; by default until `resume`.",
            show_default=False,
        ),
    ] = None,
    reason: ReasonOption = "",
    socket: SocketOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Change nothing of a VM or group until `resume`.

    Its guests keep running and are observed; deadlines pause. Exit 0: done, 1: refused.
    """
    body: dict[str, object] = {"op": "suspend", "subject": subject, "reason": reason}
    if until is not None:
        from reconciler.cli.times import seconds_until  # noqa: PLC0415 - few ask for it

        body["seconds"] = seconds_until(until, wall())
    send(socket, config, output, body)


def resume(
    subject: SubjectArgument = None,
    socket: SocketOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.text,
) -> None:
    """End a `suspend` or a `rollback`."""
    send(socket, config, output, {"op": "resume", "subject": subject})


def restart(
    vm: VMArgument,
    socket: SocketOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Replace the guest by a new one of the same generation.

    It is stopped first or, with strategy handover, once the new one has taken over.
    """
    send(socket, config, output, {"op": "restart", "vm": vm})


def remove(
    vm: VMArgument,
    socket: SocketOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Stop and remove a VM that is no longer in the repository.

    Works also without source.prune; volumes are kept. Exit 0: started, 1: refused.
    """
    send(socket, config, output, {"op": "remove", "vm": vm})


def adopt(
    vm: VMArgument,
    socket: SocketOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Accept what runs as last good, and continue.

    For a guest that was found after the ledger was lost, and differs from what is desired.
    Exit 0: done, 1: refused.
    """
    send(socket, config, output, {"op": "adopt", "vm": vm})
