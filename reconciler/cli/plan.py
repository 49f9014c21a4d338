"""`plan`: what the daemon would do now and why, and what waits for what."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from reconciler.cli.daemon_client import find_daemon
from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.options import ConfigOption, Output, OutputOption, SocketOption
from reconciler.cli.terminal import age, console, count, say
from reconciler.control.reports import PlanAnswer, PlannedEvent, Step, Waiting
from reconciler.control.serialization import encode
from reconciler.model.names import VMName
from reconciler.model.plan import FieldChange
from reconciler.safe_text import clean

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

T = TypeVar("T", Step, Waiting, PlannedEvent)
FETCH_SECONDS = 120.0
"""Time limit: a `--ref` may have to be fetched first."""
EFFECT_STYLES = {
    "rebuild": "yellow", "restart": "yellow", "checks on trial": "green", "in place": "green",
}  # fmt: skip
MOST_VALUE = 60
"""Characters of a value; for whole documents there is `git diff`."""


SAID_BY_ACTIONS = frozenset(
    ("generation-created", "guest-starting", "guest-stopping", "tap-plugged", "build-cancelled")
)
"""Kinds of events that only repeat an action of the same plan."""


def register(app: typer.Typer) -> None:
    app.command()(plan)


def plan(
    ref: Annotated[
        str | None,
        typer.Option(
            "--ref", help="Plan as if this branch, tag or commit were desired.", show_default=False
        ),
    ] = None,
    socket: SocketOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Show what would happen now, and why.

    Exit 0: nothing, 2: changes, 1: error.
    """
    daemon = find_daemon(socket, config)
    answer = daemon.get(PlanAnswer, "plan", timeout=FETCH_SECONDS, ref=ref)
    if output is Output.json:
        typer.echo(encode(answer, indent=2))
    else:
        show_plan(answer, console())
    raise typer.Exit(ExitCode.CHANGES if answer.changed else ExitCode.OK)


def show_plan(answer: PlanAnswer, out: Console) -> None:
    """Print a plan, subject by subject."""
    from rich.text import Text  # noqa: PLC0415 - only text output pays for it

    out.print(_summary(answer), style="bold")
    if answer.unseen:
        say(out, clean(answer.unseen), "bold red")
    steps, waits = _by_subject(answer.actions), _by_subject(answer.waits)
    events = _by_subject(_decisions(answer))
    for subject in _subjects(answer):
        out.print()
        # A VM without a group is its own group, whose name the planner begins with a tilde.
        out.print(Text(clean(subject).removeprefix("~") or "host", "bold cyan"))
        out.print(
            _block(
                answer.differences.get(VMName(subject), ()),
                steps[subject],
                events[subject],
                waits[subject],
            )
        )


def _summary(answer: PlanAnswer) -> str:
    if not (answer.changed or answer.waits):
        known = "by the revision read last" if answer.unseen else "by what is declared"
        seen = f"{answer.healthy} of {count(answer.vms, 'VM')} healthy"
        return f"nothing to do, {known}: {seen}"
    parts = [count(len(answer.differences), "VM") + " to change"] if answer.differences else []
    parts.append(count(len(answer.actions), "action") + " now" if answer.actions else "nothing now")
    if answer.waits:
        parts.append(count(len(answer.waits), "wait"))
    if answer.wake_in is not None:
        parts.append(f"next pass in {age(answer.wake_in)}")
    return ", ".join(parts)


def _subjects(answer: PlanAnswer) -> list[str]:
    """VMs that change, by name; then other subjects in the order of the plan."""
    others: tuple[Step | PlannedEvent | Waiting, ...]
    others = (*answer.actions, *_decisions(answer), *answer.waits)
    return list(dict.fromkeys([*sorted(answer.differences), *(one.subject for one in others)]))


def _decisions(answer: PlanAnswer) -> list[PlannedEvent]:
    return [event for event in answer.events if event.kind not in SAID_BY_ACTIONS]


def _by_subject(items: Iterable[T]) -> dict[str, list[T]]:
    found: dict[str, list[T]] = defaultdict(list)
    for one in items:
        found[one.subject].append(one)
    return found


def _block(
    changes: tuple[FieldChange, ...],
    actions: list[Step],
    events: list[PlannedEvent],
    waits: list[Waiting],
) -> Table:
    from rich.table import Table  # noqa: PLC0415 - only text output pays for it
    from rich.text import Text  # noqa: PLC0415

    grid = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    grid.add_column(no_wrap=True, min_width=10)
    grid.add_column(overflow="fold")
    for change in changes:
        effect = Text(f"  {clean(change.effect)}", EFFECT_STYLES.get(change.effect, ""))
        grid.add_row(effect, f"{clean(change.path)}  {_value(change.old)} -> {_value(change.new)}")
        for line in change.inside:
            grid.add_row("", f"  {clean(line)}")
    for step in actions:
        grid.add_row(Text("  do", "green"), _why(_what(step), step.why))
    for event in events:
        what = clean(event.kind).replace("-", " ")
        grid.add_row(Text("  decide", "green"), _why(what, event.message))
    for wait in waits:
        until = "" if wait.seconds is None else f", {age(wait.seconds)} left"
        grid.add_row(Text("  wait", "yellow"), _why(f"{clean(wait.kind)}{until}", wait.why))
    return grid


def _what(step: Step) -> str:
    number = "" if step.generation is None else f" {step.generation}"
    noun = " of generation" if number and "generation" not in step.kind else ""
    return f"{clean(step.kind).replace('-', ' ')}{noun}{number}"


def _why(what: str, why: str) -> str:
    return f"{what}: {clean(why)}" if why else what


def _value(text: str) -> str:
    safe = clean(text) or "(none)"
    return safe if len(safe) <= MOST_VALUE else safe[: MOST_VALUE - 1] + "…"
