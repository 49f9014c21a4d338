"""The options that many commands share, each written once."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from reconciler.cli import completion


class Output(StrEnum):
    text = "text"
    json = "json"


OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="For people, or for scripts.", show_default=True)
]
SocketOption = Annotated[
    Path | None,
    typer.Option(
        "--socket",
        envvar="RECONCILER_SOCKET",
        readable=False,  # whoever may not open it is told why by us
        help="The daemon's control socket; by default the one its config names.",
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
