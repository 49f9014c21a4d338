"""`token`: what the TCP face takes, for those who may open the control socket."""

from __future__ import annotations

from typing import Annotated

import typer

from reconciler.cli.options import ConfigOption, Output, OutputOption, SocketOption
from reconciler.cli.socket_path import find_daemon
from reconciler.control.responses import TokenAnswer
from reconciler.control.serialization import encode


def register(app: typer.Typer) -> None:
    app.command()(token)


def token(
    *,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="One that reads /metrics alone, for a scraper.")
    ] = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.text,
) -> None:
    """A token that reads the page, its JSON and the metrics.

    It stays the same until `http.key` of the state directory is removed.
    """
    answer = find_daemon(socket, config).get(TokenAnswer, "token")
    if output is Output.json:
        typer.echo(encode(answer, indent=2))
    else:
        typer.echo(answer.metrics if metrics else answer.read)
