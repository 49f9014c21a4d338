"""The display: a live table on a terminal, one plain line per change elsewhere."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group as Stack
from rich.live import Live
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from demo.client import VM, DaemonAway, Fleet
from demo.daemon import Daemon

LOOK_EVERY = 0.2
COUNTING = re.compile(r"\d+\.\d+s")
"""Text that changes at each poll without news."""
STATE_STYLES = {"running": "green", "failed": "red", "stopped": "red", "unknown": "red"}
SYNC_STYLES = {"synced": "green", "blocked": "red"}


class DemoFailed(Exception):
    """A step did not do what the demo claims."""


class Screen:
    """Shows the fleet while a step waits for a condition."""

    def __init__(self, console: Console, steps: int) -> None:
        self.console = console
        self._steps = steps
        self._lines: dict[str, str] = {}
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.total:.0f} steps"),
            TimeElapsedColumn(),
            console=console,
        )
        self._task = self._progress.add_task("", total=steps)
        self._live: Live | None = None

    @contextmanager
    def open(self) -> Iterator[None]:
        if not self.console.is_terminal:
            yield
            return
        with Live(console=self.console, refresh_per_second=8, transient=True) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    def heading(self, number: int, title: str) -> None:
        self._progress.update(self._task, completed=number - 1)
        self.console.print(f"\n[bold]{number}. {title}[/]", highlight=False)

    def say(self, text: str) -> None:
        self.console.print(f"   {text}", highlight=False, markup=False)

    def until(
        self, daemon: Daemon, what: str, timeout: float, condition: Callable[[Fleet], bool]
    ) -> Fleet:
        """Wait until the condition holds for the fleet, and show the fleet meanwhile.

        Raises DemoFailed when the time is up, or the daemon ended.
        """
        begun = time.monotonic()
        last: Fleet | None = None
        while time.monotonic() < begun + timeout:
            try:
                last = daemon.fleet()
            except DaemonAway:
                last = None
            self.show(last, what)
            if last is not None and condition(last):
                return last
            # Also the pause between two polls.
            if (code := daemon.exit_code(LOOK_EVERY)) is not None:
                raise DemoFailed(f"the daemon ended with exit code {code}:\n{daemon.log_tail()}")
        raise DemoFailed(f"not within {timeout:.0f} s: {what}\n{in_words(last)}")

    def show(self, fleet: Fleet | None, what: str) -> None:
        if self._live is not None:
            self._progress.update(self._task, description=what)
            self._live.update(Stack(table_of(fleet), self._progress))
            return
        for vm in fleet.vms.values() if fleet else ():
            line = line_of(vm)
            known = COUNTING.sub("", line)
            if self._lines.get(vm.name) != known:
                self._lines[vm.name] = known
                self.say(line)


def line_of(vm: VM) -> str:
    health = "healthy" if vm.healthy else "not healthy"
    why = f": {vm.why}" if vm.why else ""
    return f"{vm.name:<8} {vm.state}, {health}, {vm.sync}, generation {vm.running or '-'}{why}"


def in_words(fleet: Fleet | None) -> str:
    if fleet is None:
        return "the daemon does not answer"
    return "\n".join(line_of(vm) for vm in fleet.vms.values()) or "there are no VMs"


def table_of(fleet: Fleet | None) -> Table:
    table = Table(expand=False, pad_edge=False, box=None, header_style="dim")
    for title in ("VM", "group", "state", "health", "sync", "generation", "pid", "why"):
        table.add_column(title, no_wrap=title != "why")
    if fleet is None:
        table.add_row("[yellow]the daemon is away[/]")
        return table
    for vm in fleet.vms.values():
        table.add_row(
            vm.name,
            vm.group,
            f"[{STATE_STYLES.get(vm.state, 'yellow')}]{vm.state}[/]",
            "[green]healthy[/]" if vm.healthy else "[yellow]not healthy[/]",
            f"[{SYNC_STYLES.get(vm.sync, 'yellow')}]{vm.sync}[/]",
            f"{vm.running or '-'} (wanted {vm.desired or '-'}, good {vm.last_good or '-'})",
            str(vm.pid or "-"),
            vm.why.replace("[", r"\["),
        )
    return table
