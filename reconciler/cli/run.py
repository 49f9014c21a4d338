"""`run`: the daemon in the foreground; `front`: its proxy process; and `version`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reconciler.cli.daemon_client import DaemonError, find_daemon
from reconciler.cli.exit_codes import ExitCode, report
from reconciler.cli.options import ConfigOption, Output, OutputOption, SocketOption
from reconciler.control.responses import VersionAnswer, version as own_version
from reconciler.control.serialization import encode
from reconciler.errors import ConfigError
from reconciler.safe_text import clean

Folder = Annotated[Path, typer.Option("--folder", help="The folder of its socket and lock.")]


def register(app: typer.Typer) -> None:
    app.command()(run)
    app.command()(version)
    app.command()(front)


def run(config: ConfigOption = None, output: OutputOption = Output.text) -> None:
    """Run the daemon in the foreground.

    With `-o json` it logs JSON, whatever the config says. Exit 78: the config is invalid.
    """
    try:
        _run_daemon(config, json_logs=output is Output.json)
    except ConfigError as error:
        report(error)
        raise typer.Exit(ExitCode.CONFIG) from error


def _run_daemon(config: Path | None, *, json_logs: bool) -> None:
    from reconciler.config import config_path, load_config  # noqa: PLC0415 - for this command alone

    settings = load_config(config_path(config))
    import asyncio  # noqa: PLC0415 - as above

    from reconciler import daemon  # noqa: PLC0415 - as above

    if json_logs:
        settings = settings.model_copy(update={"log_format": "json"})
    asyncio.run(daemon.run(settings))


def version(
    socket: SocketOption = None, config: ConfigOption = None, output: OutputOption = Output.text
) -> None:
    """Print the versions of command and daemon."""
    try:
        running = find_daemon(socket, config).get(VersionAnswer, "version").version
        words = running
    except (DaemonError, ConfigError) as error:
        running = None
        words = "not running" if error.kind == "not-running" else f"unknown: {clean(str(error))}"
    if output is Output.json:
        typer.echo(encode({"version": own_version(), "daemon": running}, indent=2))
        return
    typer.echo(f"reconciler {own_version()}, daemon {words}")


def front(folder: Folder = Path("/run/reconciler-front")) -> None:
    """Run the proxy that holds the ports of VMs with strategy handover.

    The daemon or systemd starts it when a VM needs it; there is no need to run it by hand.
    """
    import asyncio  # noqa: PLC0415 - for this command alone

    from reconciler.logs import open_log  # noqa: PLC0415 - as above
    from reconciler.proxy.server import run  # noqa: PLC0415 - as above
    from reconciler.systemd_notify import Service  # noqa: PLC0415 - as above

    open_log("logfmt")
    asyncio.run(run(folder, Service()))
