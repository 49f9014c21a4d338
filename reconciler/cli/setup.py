"""Commands for setting up a host: `token` for its page and metrics, `notify` to test its sinks."""

from __future__ import annotations

from typing import Annotated

import typer

from reconciler.cli.daemon_client import find_daemon
from reconciler.cli.exit_codes import ExitCode, complain
from reconciler.cli.options import ConfigOption, Output, OutputOption, SocketOption
from reconciler.control.responses import TokenAnswer
from reconciler.control.serialization import encode
from reconciler.safe_text import clean

SinkArgument = Annotated[
    str, typer.Argument(metavar="SINK", help="A `name` in [[notifications]]; all if left out.")
]


def register(app: typer.Typer) -> None:
    app.command()(notify)
    app.command()(token)


def token(
    *,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="A token for /metrics alone, for a scraper.")
    ] = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Print a token that may read the page, its JSON and the metrics.

    It is valid until `http.key` in the state directory is removed.
    """
    answer = find_daemon(socket, config).get(TokenAnswer, "token")
    if output is Output.json:
        typer.echo(encode(answer, indent=2))
    else:
        typer.echo(answer.metrics if metrics else answer.read)


def notify(
    sink: SinkArgument = "", config: ConfigOption = None, output: OutputOption = Output.text
) -> None:
    """Send a test message to one sink of the config, or to all.

    Exit 1: a sink did not accept it.
    """
    import asyncio  # noqa: PLC0415 - for this command alone

    from reconciler.config import config_path, load_config  # noqa: PLC0415 - as above
    from reconciler.notify.registry import send_to  # noqa: PLC0415 - as above

    settings = load_config(config_path(config))
    wanted = [one for one in settings.notifications if sink in ("", one.name)]
    if not wanted:
        names = ", ".join(one.name for one in settings.notifications) or "none"
        complain(f"the config has no sink {sink}".rstrip(), f"[[notifications]] has: {names}")
        raise typer.Exit(ExitCode.ERROR)
    errors = {one.name: asyncio.run(send_to(one)) for one in wanted}
    if output is Output.json:
        typer.echo(encode({"sinks": errors}, indent=2))
    else:
        for name, error in errors.items():
            typer.echo(f"{name}: {clean(error) or 'delivered'}")
    if any(errors.values()):
        raise typer.Exit(ExitCode.ERROR)
