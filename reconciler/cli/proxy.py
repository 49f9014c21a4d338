"""`front`: the process that holds ports for VMs that hand over; systemd or the daemon starts it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Folder = Annotated[
    Path, typer.Option("--folder", help="Where its socket and its lock are, or are made.")
]


def register(app: typer.Typer) -> None:
    app.command()(front)


def front(folder: Folder = Path("/run/reconciler-front")) -> None:
    """Hold ports for VMs that hand over.

    The daemon, or systemd, starts it where a VM needs it; nobody else has to.
    """
    import asyncio  # noqa: PLC0415 - for this command alone

    from reconciler.logs import open_log  # noqa: PLC0415 - as above
    from reconciler.proxy.server import run  # noqa: PLC0415 - as above
    from reconciler.systemd_notify import Service  # noqa: PLC0415 - as above

    open_log("logfmt")
    asyncio.run(run(folder, Service()))
