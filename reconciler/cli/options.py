"""Options and arguments that many commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from reconciler.cli import completion


class Output(StrEnum):
    """The output formats."""

    text = "text"
    json = "json"


OutputOption = Annotated[
    Output,
    typer.Option("--output", "-o", help="text, or json for scripts.", show_default=True),
]
SocketOption = Annotated[
    Path | None,
    typer.Option(
        "--socket",
        envvar="RECONCILER_SOCKET",
        readable=False,  # our own message says why it cannot be opened
        help="The daemon's control socket; by default the one in its config.",
        show_default=False,
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="RECONCILER_CONFIG",
        readable=False,
        help="The daemon's settings; by default /etc/reconciler/config.toml.",
        show_default=False,
    ),
]
VMArgument = Annotated[
    str,
    typer.Argument(
        metavar="VM", help="Name of a VM.", show_default=False, autocompletion=completion.vms
    ),
]
