"""Tags of images: what each means on this host, and `images resolve`, which asks the registries again."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Annotated

import typer

from reconciler.cli.daemon_client import Daemon, DaemonError, find_daemon
from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.options import ConfigOption, Output, OutputOption, SocketOption
from reconciler.cli.terminal import age, console, say, wall
from reconciler.control.responses import DoneAnswer
from reconciler.control.serialization import encode
from reconciler.model.image_tags import SHOWN_DIGEST
from reconciler.model.store_status import StoreReport, TagStatus
from reconciler.safe_text import clean

LOOK_SECONDS = 0.2
MOST_VMS = 5


def resolve(
    tag: Annotated[
        str | None,
        typer.Argument(
            metavar="IMAGE:TAG",
            help="One tag, with its registry; all that VMs are declared with if left out.",
            show_default=False,
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, help="Seconds to wait at most.")
    ] = 300.0,
    socket: SocketOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Ask the registries now what tags of images mean, whatever `resolve` says.

    A tag that means another image is rolled out like any change. Exit 0: all were looked up, 1: one
    could not be, or not in time; what it meant before stays in use.
    """
    daemon, until = find_daemon(socket, config), time.monotonic() + timeout
    daemon.post(DoneAnswer, "request", {"op": "resolve-tags", "tag": tag})
    found = _meant(daemon, tag)
    while any(one.looking for one in found):
        if time.monotonic() >= until:
            raise DaemonError(
                f"not looked up after {timeout:.0f} s",
                hint="`reconciler images ls` shows how far it is",
            )
        time.sleep(LOOK_SECONDS)
        found = _meant(daemon, tag)
    if output is Output.json:
        typer.echo(encode(found, indent=2))
    else:
        for line in lines(found, wall()):
            say(console(), line, hang=4)
    raise typer.Exit(ExitCode.ERROR if any(one.error for one in found) else ExitCode.OK)


def _meant(daemon: Daemon, tag: str | None) -> tuple[TagStatus, ...]:
    report = daemon.get(StoreReport, "images")
    return tuple(one for one in report.tags if tag in (None, one.reference))


def lines(tags: Iterable[TagStatus], now: float) -> Iterator[str]:
    """What each tag means, in words."""
    for one in tags:
        name = f"{clean(one.reference)} ({one.resolve})"
        means = (
            f"means {clean(one.digest[:SHOWN_DIGEST])}, looked up {age(now - one.looked_wall)} ago"
        )
        vms = ", ".join(map(clean, one.vms[:MOST_VMS]))
        more = f" and {len(one.vms) - MOST_VMS} more" if len(one.vms) > MOST_VMS else ""
        error = f"; the newest lookup failed: {clean(one.error)}" if one.error else ""
        known = means if one.digest else "was never looked up with success"
        yield f"{name} {known}: {vms}{more}{error}"
