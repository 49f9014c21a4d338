"""One VM in full, for `status VM`."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from reconciler.cli.generations import CONSOLE_LINES, show_evidence, show_history
from reconciler.cli.host_view import BAD, fleet_lines
from reconciler.cli.terminal import age, say, short
from reconciler.control.reports import HistoryAnswer, VMAnswer
from reconciler.model.status import VMStatus
from reconciler.safe_text import clean

LABEL = 10
"""Columns of a label, with the gap after it."""


def show_vm(answer: VMAnswer, out: Console, now: float) -> None:
    """Print all facts about one VM, and its history."""
    for line in fleet_lines(answer, out.width, now):
        out.print(line)
    for vm in answer.vms:
        out.print()
        for label, text in _facts(vm, now):
            say(out, Text(label.ljust(LABEL), "dim").append(text), hang=LABEL)
    if answer.history is not None:
        out.print()
        show_history(answer.history, out, now)
        _show_evidence(answer.history, out)


def _facts(vm: VMStatus, now: float) -> Iterator[tuple[str, str]]:
    if vm.probe:
        yield "checks", clean(vm.probe)
    if vm.pid is not None:
        since = f", up {age(now - vm.started_wall)}" if vm.started_wall else ""
        yield "process", f"pid {vm.pid}{since}"
    if vm.candidate is not None:
        yield "beside", f"generation {vm.candidate} on trial, not serving yet"
    if vm.ports:
        yield "ports", ", ".join(str(port) for port in vm.ports)
    if vm.digest:
        yield "digest", short(vm.digest)
    if vm.pid is not None:
        yield "health", _health(vm)
    if vm.restarts:
        yield "restarts", ", ".join(f"{clean(why)} {times}" for why, times in vm.restarts)
    if vm.restarted is not None:
        last = vm.restarted
        words = f"{age(now - last.wall)} ago, {clean(last.reason)}"
        yield "last one", f"{words}: {clean(last.why)}" if last.why else words


def _health(vm: VMStatus) -> str:
    """Readiness and liveness, separately: may it serve, and must it be restarted."""
    if vm.unasked:
        return "not asked yet"
    ready = "ready" if vm.healthy else "not ready"
    alive = {True: "alive", False: "must be restarted", None: "not known to be alive"}[vm.alive]
    return f"{ready}, {alive}"


def _show_evidence(history: HistoryAnswer, out: Console) -> None:
    """Print the evidence of the newest generation if its block was lifted; a block shows it already."""
    newest = next(iter(history.generations), None)
    if newest is None or newest.evidence is None:
        return
    if any(blocked.generation == newest.number for blocked in history.blocked):
        return  # the history shows it
    out.print()
    out.print(f"what generation {newest.number} left:", style=BAD)
    show_evidence(newest.evidence, out, history.vm, lines=CONSOLE_LINES)
