"""`status --watch`: the lines of `status`, updated in place."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from reconciler.cli.daemon_client import Daemon, DaemonError
from reconciler.cli.host_view import BAD, DIM, Fleet, header, rows
from reconciler.cli.status import ask
from reconciler.cli.terminal import console, wall
from reconciler.control.serialization import encode
from reconciler.model.status import VMStatus
from reconciler.now import in_utc
from reconciler.safe_text import clean

PERIOD = 1.0
"""Seconds between updates."""
BUILDS_PERIOD = 10.0
"""Seconds between lines in a pipe that differ only in how far builds are."""
FEWEST_ROWS = 3
"""Lines that a long header must leave for VMs, including their heading."""


def watch_status(daemon: Daemon, vm: str | None, *, json_lines: bool) -> None:
    """Show the status until interrupted.

    On a terminal it waits for a daemon that stopped; otherwise DaemonError is raised.
    """
    fleet = ask(daemon, vm)
    if json_lines or not sys.stdout.isatty():
        _print_changes(daemon, vm, fleet, encode if json_lines else _as_text)
    else:
        _redraw(daemon, vm, fleet)


def _print_changes(
    daemon: Daemon, vm: str | None, fleet: Fleet, form: Callable[[Fleet], str]
) -> None:
    shown, at = "", 0.0
    while True:
        # How far builds are alone is news every few seconds.
        rest = form(replace(fleet, builds=()))
        text, now = form(fleet), time.monotonic()
        if rest != shown or (fleet.builds and now >= at + BUILDS_PERIOD):
            typer.echo(text)
            sys.stdout.flush()
            shown, at = rest, now
        time.sleep(PERIOD)
        fleet = ask(daemon, vm)


def _as_text(fleet: Fleet) -> str:
    lines = [*header(fleet, console().width, wall())]
    lines += rows(fleet.vms, console().width)
    return "\n".join(line.plain.rstrip() for line in lines) + "\n"


def _redraw(daemon: Daemon, vm: str | None, fleet: Fleet) -> None:
    out, trouble = console(), ""
    # The alternate screen is overwritten in place: no clearing, so no flicker.
    with Live(console=out, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            live.update(Group(*screen(fleet, out.width, out.height, trouble)), refresh=True)
            time.sleep(PERIOD)
            try:
                fleet, trouble = ask(daemon, vm), ""
            except DaemonError as error:
                trouble = str(error)


def screen(fleet: Fleet, width: int, height: int, trouble: str = "") -> list[Text]:
    """The lines that fit; if not all VMs do, those that need attention come first."""
    now = wall()
    clock = in_utc(now).astimezone().strftime("%H:%M:%S")
    first = Text(clean(trouble)[:width], BAD) if trouble else Text(f"{clock}  Ctrl-C ends", DIM)
    top = [first, *header(fleet, width, now)]
    top = [*top[: max(1, height - FEWEST_ROWS - 2)], Text()]
    room = height - len(top)
    body = rows(fleet.vms, width)
    if len(body) > room:
        body = rows(sorted(fleet.vms, key=_urgency), width)
        hidden = len(body) - room + 1
        body = [*body[: room - 1], Text(f"… {hidden} more lines; `reconciler status` has all", DIM)]
    return [*top, *body]


def _urgency(vm: VMStatus) -> tuple[int, str]:
    if not vm.healthy:
        return 0, vm.name
    return (1 if vm.why or vm.sync != "synced" else 2), vm.name
