"""Draws the progress of a rollout on standard error while a command waits for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from reconciler.cli.daemon_client import Daemon, DaemonError
from reconciler.cli.terminal import build_lines, console, count, wall
from reconciler.model.status import HostStatus, VMStatus
from reconciler.safe_text import clean

PERIOD = 0.5
"""Seconds between updates."""
MOST_LINES = 10
"""VMs that are shown at once; a terminal has 24 lines."""
NAME_WIDTH = 16


class RolloutProgress:
    """A progress bar for the host, and below it what each unfinished VM is doing."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TextColumn("VMs as declared"),
            TimeElapsedColumn(),
        )
        self._fleet = self._bar.add_task("reconciling", total=None)
        self._live = Live(self._bar, console=console(stderr=True), transient=True)

    def __enter__(self) -> Callable[[], float]:
        self._live.start()
        return self.refresh

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def refresh(self) -> float:
        """Fetch the status and redraw; returns seconds until the next call."""
        # The request that the command waits for will report the error.
        with contextlib.suppress(DaemonError):
            self._show(self._daemon.get(HostStatus, "status"))
        return PERIOD

    def _show(self, fleet: HostStatus) -> None:
        done = sum(_done(vm) for vm in fleet.vms)
        self._bar.update(self._fleet, total=len(fleet.vms), completed=done)
        alerts = [_line(alert, "red") for alert in fleet.alerts]
        builds = [_line(line, "yellow") for line in build_lines(fleet.builds, wall())]
        self._live.update(Group(self._bar, *alerts, *builds, *work_lines(fleet)))


def work_lines(fleet: HostStatus) -> list[Text]:
    """Lines for VMs that are not as declared, those starting or stopping first."""
    at_work = [vm for vm in fleet.vms if not _done(vm) and (vm.why or vm.state != "running")]
    at_work.sort(key=lambda vm: vm.state not in ("starting", "stopping"))
    shown = at_work if len(at_work) <= MOST_LINES else at_work[: MOST_LINES - 1]
    lines = [_line(f"{clean(vm.name):{NAME_WIDTH}}  {vm.why or vm.state}", "dim") for vm in shown]
    if len(at_work) > len(shown):
        lines.append(_line(f"and {count(len(at_work) - len(shown), 'VM')} more", "dim"))
    return lines


def _line(text: str, style: str) -> Text:
    return Text(f"  {clean(text)}", style, no_wrap=True, overflow="ellipsis")


def _done(vm: VMStatus) -> bool:
    return vm.healthy and vm.sync == "synced"
