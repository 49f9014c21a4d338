"""Runs and measures a step: its time, the guests it touched, and the gaps that clients saw."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from demo.client import Fleet
from demo.daemon import Daemon
from demo.poller import Gap, Poller, longest
from demo.repository import Repository
from demo.screen import DemoFailed, Screen
from demo.stage import Stage

STEP_TIMEOUT = 150.0


@dataclass(slots=True)
class Show:
    """The stage, screen and poller that every step uses."""

    stage: Stage
    screen: Screen
    poller: Poller
    results: list[Result] = field(default_factory=list)

    @property
    def repository(self) -> Repository:
        return self.stage.repository

    @property
    def daemon(self) -> Daemon:
        return self.stage.daemon

    def push(self, message: str) -> str:
        revision = self.repository.push(message)
        self.screen.say(f"pushed {revision[:8]}: {message}")
        return revision

    def until(
        self, what: str, condition: Callable[[Fleet], bool], timeout: float = STEP_TIMEOUT
    ) -> Fleet:
        return self.screen.until(self.daemon, what, timeout, condition)


@dataclass(frozen=True, slots=True)
class Step:
    title: str
    act: Callable[[Show], str]
    """Does the step and waits for its end; returns a remark for the summary."""
    close: tuple[str, ...] = ()
    """Guests whose every gap counts: clients poll them more often."""


@dataclass(frozen=True, slots=True)
class Result:
    title: str
    seconds: float
    touched: tuple[str, ...]
    gaps: Mapping[str, Sequence[Gap]]
    remark: str


def perform(show: Show, number: int, step: Step) -> None:
    """Run one step, and keep its figures."""
    show.screen.heading(number, step.title)
    before = show.daemon.fleet().instances() if show.results else {}
    show.poller.watch_closely(step.close)
    begun = time.monotonic()
    remark = step.act(show)
    seconds = time.monotonic() - begun
    after = show.daemon.fleet().instances()
    touched = tuple(
        name for name in sorted(before.keys() | after) if before.get(name) != after.get(name)
    )
    # While guests boot for the first time, clients expect no answer.
    gaps = show.poller.gaps(begun) if show.results else {}
    show.results.append(Result(step.title, seconds, touched, gaps, remark))
    for name, ones in gaps.items():
        if ones:
            show.screen.say(f"{name}: unreachable for {', '.join(map(in_words, ones))}")
    show.screen.say(f"done in {seconds:.1f} s: {remark}")


def in_words(gap: Gap) -> str:
    return f"{gap.seconds:.2f} s" + ("" if gap.refused else " (slow, not down)")


def require(truth: object, otherwise: str) -> None:
    if not truth:
        raise DemoFailed(otherwise)


def summary(console: Console, results: Sequence[Result]) -> None:
    table = Table(title="What happened", title_justify="left", expand=False)
    table.add_column("", justify="right")
    table.add_column("step")
    table.add_column("seconds", justify="right")
    table.add_column("guests touched")
    table.add_column("longest gap from outside")
    table.add_column("remark")
    for number, result in enumerate(results, 1):
        table.add_row(
            str(number),
            result.title,
            f"{result.seconds:.1f}",
            ", ".join(result.touched) or "none",
            downtime(result) if result.gaps else "-",
            result.remark,
        )
    total = sum(result.seconds for result in results)
    table.add_section()
    table.add_row("", "total", f"{total:.1f}")
    console.print()
    console.print(table, highlight=False)


def downtime(result: Result) -> str:
    down = {name: [gap for gap in ones if gap.refused] for name, ones in result.gaps.items()}
    return (
        ", ".join(f"{name} {longest(ones):.2f} s" for name, ones in down.items() if ones) or "none"
    )
