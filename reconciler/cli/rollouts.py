"""Decisions about rollouts and revisions: `promote`, `abort`, `confirm`, `accept-rewrite`."""

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
    """Approve the pending change of a group's members.

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

    Members on trial go back, waiting ones stay as they are; a new change starts another rollout.
    Exit 0: done, 1: refused.
    """
    send(socket, config, output, {"op": "abort", "group": group, "reason": reason})


def confirm(
    revision: Annotated[
        str,
        typer.Argument(
            metavar="REVISION", help="The desired revision; at least 7 digits.", show_default=False
        ),
    ],
    socket: SocketOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Allow all removals of a revision, even more than `source.max_delete`.

    Without `source.prune` nothing is removed all the same. Exit 0: done, 1: refused.
    """
    send(socket, config, output, {"op": "confirm", "revision": revision.lower()})


def accept_rewrite(
    revision: Annotated[
        str,
        typer.Argument(
            metavar="REVISION", help="The refused revision; at least 7 digits.", show_default=False
        ),
    ],
    socket: SocketOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Follow a branch that was rewritten or set back.

    See what changed first: `reconciler plan --ref REVISION`. Exit 0: done, 1: refused.
    """
    send(socket, config, output, {"op": "accept-rewrite", "revision": revision.lower()})
