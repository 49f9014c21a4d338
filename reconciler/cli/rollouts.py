"""What a person says to a rollout or revision: `promote`, `abort`, `confirm`, `accept-rewrite`."""

from __future__ import annotations

from typing import Annotated

import typer

from reconciler.cli import completion
from reconciler.cli.operate import ReasonOption, send
from reconciler.cli.options import ConfigOption, Output, OutputOption, SocketOption

GroupArgument = Annotated[
    str,
    typer.Argument(
        metavar="GROUP",
        help="Name of a group.",
        show_default=False,
        autocompletion=completion.groups,
    ),
]


def register(app: typer.Typer) -> None:
    for command in (promote, abort, confirm):
        app.command()(command)
    app.command("accept-rewrite")(accept_rewrite)


def promote(
    group: GroupArgument,
    socket: SocketOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Approve what a group's members are about to take.

    For groups with `approval: manual`; a later change waits again. Exit 0: done, 1: refused.
    """
    send(socket, config, output, {"op": "promote", "group": group})


def abort(
    group: GroupArgument,
    reason: ReasonOption = "",
    socket: SocketOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.text,
) -> None:
    """End a group's rollout.

    Who is on trial goes back, who waits stays; a new change goes on. Exit 0: done, 1: refused.
    """
    send(socket, config, output, {"op": "abort", "group": group, "reason": reason})


def confirm(
    revision: Annotated[
        str,
        typer.Argument(
            metavar="REVISION", help="The desired one, or its first 7 digits.", show_default=False
        ),
    ],
    socket: SocketOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Allow the removals of a revision, however many.

    Also more than `source.max_delete`; without `source.prune` nothing is removed. Exit 0: done, 1: refused.
    """
    send(socket, config, output, {"op": "confirm", "revision": revision.lower()})


def accept_rewrite(
    revision: Annotated[
        str,
        typer.Argument(
            metavar="REVISION", help="The refused one, or its first 7 digits.", show_default=False
        ),
    ],
    socket: SocketOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Follow a branch that was rewritten or set back.

    Look at what changed first: `reconciler plan --ref REVISION`. Exit 0: done, 1: refused.
    """
    send(socket, config, output, {"op": "accept-rewrite", "revision": revision.lower()})
