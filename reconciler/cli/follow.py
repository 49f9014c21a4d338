"""`events` and `logs`: what happened on the host, and the consoles of guests."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Annotated

import typer

from reconciler.cli.daemon_client import Daemon, DaemonError, find_daemon
from reconciler.cli.options import ConfigOption, Output, OutputOption, SocketOption, VMArgument
from reconciler.cli.terminal import console, say
from reconciler.control.reports import EventsAnswer
from reconciler.control.serialization import encode
from reconciler.model.event import Event
from reconciler.now import in_utc
from reconciler.safe_text import clean, clean_console_line

FollowOption = Annotated[bool, typer.Option("--follow", "-f", help="Keep printing new lines.")]
KIND_WIDTH = 20
"""Columns; the longest kind is `generation-committed`."""
MESSAGE_AT = len("Jul 21 14:02:11  ") + KIND_WIDTH + 2
COLOURS = {"warning": typer.colors.YELLOW, "error": typer.colors.RED}


def register(app: typer.Typer) -> None:
    app.command()(logs)
    app.command()(events)


def logs(
    vm: VMArgument,
    *,
    follow: FollowOption = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, max=10_000, help="Number of lines from the end.")
    ] = 100,
    candidate: Annotated[
        bool,
        typer.Option(
            "--candidate",
            help="The console of the candidate, or of the last one.",
        ),
    ] = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Print a guest's console, without terminal sequences."""
    asked = {"follow": "true" if follow else None, "candidate": "true" if candidate else None}
    for raw in find_daemon(socket, config).stream("logs", vm, lines=lines, **asked):
        line = clean_console_line(raw)
        typer.echo(encode({"vm": vm, "line": line}) if output is Output.json else line)


def events(
    *,
    follow: FollowOption = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=1, max=10_000, help="Number of the newest events.")
    ] = 20,
    after: Annotated[
        int | None,
        typer.Option(
            "--after", min=0, help="Only events after this sequence number.", show_default=False
        ),
    ] = None,
    socket: SocketOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Print what happened on this host, oldest first."""
    daemon = find_daemon(socket, config)
    show = _shown_on_a_terminal() if sys.stdout.isatty() else _shown_as_a_line
    for event in _events(daemon, follow=follow, lines=lines, after=after):
        if output is Output.json:
            typer.echo(encode(event))
        else:
            show(event)


def _events(daemon: Daemon, *, follow: bool, lines: int, after: int | None) -> Iterator[Event]:
    if not follow:
        yield from daemon.get(EventsAnswer, "events", limit=lines, after=after).events
        return
    yield from daemon.stream_values(Event, "events", limit=lines, after=after, follow="true")
    raise DaemonError("the daemon ended the stream", hint="try again when it is back")


def _shown_as_a_line(event: Event) -> None:
    typer.secho(event_line(event), fg=COLOURS.get(event.severity))


def _shown_on_a_terminal() -> Callable[[Event], None]:
    """Lines wrapped between words, indented to where the message begins."""
    out = console()
    return lambda event: say(
        out, event_line(event), COLOURS.get(event.severity, ""), hang=MESSAGE_AT
    )


def event_line(event: Event) -> str:
    """`Jul 21 14:02:11  generation-committed  web: generation 4 is healthy`."""
    when = in_utc(event.wall).astimezone().strftime("%b %d %H:%M:%S")
    subject = (event.vm or event.group or "").removeprefix("~")
    about = "" if subject in event.message else f"{subject}: "
    return f"{when}  {clean(event.kind):{KIND_WIDTH}}  {clean(about + event.message)}"
