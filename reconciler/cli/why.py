"""`why`: what a VM waits for and what failed, since when and until when."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from reconciler.cli.daemon_client import find_daemon
from reconciler.cli.generations import show_condemned
from reconciler.cli.options import ConfigOption, Output, OutputOption, SocketOption, VMArgument
from reconciler.cli.terminal import age, build_lines, console, say, short, wall
from reconciler.cli.times import since, until
from reconciler.control.reports import WhyAnswer
from reconciler.control.serialization import encode
from reconciler.model.status import VMStatus, WaitStatus
from reconciler.model.waits import WaitTraits, traits_of
from reconciler.safe_text import clean

if TYPE_CHECKING:
    from rich.console import Console

CONSOLE_LINES = 20
"""Lines of a console; as many as the evidence keeps."""


def register(app: typer.Typer) -> None:
    app.command()(why)


def why(
    vm: VMArgument,
    socket: SocketOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Explain the state of a VM.

    What it waits for or what failed, since when and until when, with the evidence.
    """
    answer = find_daemon(socket, config).get(WhyAnswer, "why", vm)
    if output is Output.json:
        typer.echo(encode(answer, indent=2))
        return
    show_why(answer, console(), wall())


def show_why(answer: WhyAnswer, out: Console, now: float) -> None:
    """Print the explanation of a VM's state."""
    from rich.text import Text  # noqa: PLC0415 - only text output pays for it

    say(out, _headline(answer, now), "bold")
    for line in _surroundings(answer, now):
        say(out, line, "red")
    for at, wait in enumerate(answer.vm.waits):
        traits = traits_of(wait.kind)
        style = "red" if traits is not None and traits.failure_rank else "yellow"
        words = Text("  ").append(clean(wait.kind), style).append(f": {clean(wait.why)}")
        say(out, words.append(_times(wait, now), "dim"), hang=4)
        if wait.kind not in {later.kind for later in answer.vm.waits[at + 1 :]}:
            say(out, f"    {_advice(traits, answer.vm)}", "dim", hang=4)
    for line in build_lines(answer.builds, now, vms=False):
        say(out, f"  {line}", "yellow", hang=4)
    if not answer.vm.waits:
        say(out, f"  {_without_waits(answer.vm)}")
    for advice in answer.advice:
        words = Text("  advice", "yellow").append(f": {clean(advice.field)}: ", "")
        say(out, words.append(clean(advice.message), ""), hang=4)
    former = False
    for blocked in answer.condemned:
        out.print()
        if blocked.digest != answer.vm.digest and not former:
            out.print("earlier digests, for which nothing waits:", style="dim")
            former = True
        show_condemned(blocked, out, now, answer.vm.name, lines=CONSOLE_LINES)


def _advice(traits: WaitTraits | None, vm: VMStatus) -> str:
    """What a person can do about a wait; empty for a kind that only a newer daemon knows."""
    if traits is None:
        return ""
    name = clean(vm.name)
    return traits.advice.format(vm=name, group=clean(vm.group or "") or name)


def _headline(answer: WhyAnswer, now: float) -> str:
    """`web is running, healthy and out-of-sync: generation 3 runs, 4 is desired by b81e03f7`."""
    vm, numbers, revision = answer.vm, answer.vm.generation, answer.revision
    health = "healthy" if vm.healthy else "not asked yet" if vm.unasked else "not healthy"
    runs = "nothing runs" if numbers.running is None else f"generation {numbers.running} runs"
    if vm.candidate is not None:
        same = vm.candidate == numbers.running
        runs += f", {'a new guest of it' if same else vm.candidate} on trial beside it"
    line = f"{clean(vm.name)} is {clean(vm.state)}, {health} and {clean(vm.sync)}: {runs}"
    if numbers.desired not in (None, numbers.running, vm.candidate):
        line += f", {numbers.desired} is desired"
    if revision.observed:
        seen = f", seen {age(now - revision.seen_wall)} ago" if revision.seen_wall else ""
        line += f" (revision {short(revision.observed)}{seen})"
    return line


def _surroundings(answer: WhyAnswer, now: float) -> Iterator[str]:
    """Troubles of host, group, revision and source that may be the reason."""
    yield from (clean(alert) for alert in answer.alerts)
    if answer.suspended:
        yield "this host is suspended: the daemon changes nothing until `resume`"
    for group in answer.groups:
        if group.state == "suspended":
            yield f"group {clean(group.name)} is suspended: the daemon changes nothing until `resume`"
    if answer.revision.rejected:
        problem = answer.revision.problems[0] if answer.revision.problems else "see `status`"
        more = answer.revision.problem_count - 1
        others = f" (and {more} more, see `status`)" if more > 0 else ""
        words = f"revision {short(answer.revision.rejected)} is rejected: {clean(problem)}{others}"
        yield f"{words}; the one before stays in force"
    for source in answer.sources:
        if source.error:
            last = source.last_success_wall
            read = f"last read {age(now - last)} ago" if last else "never read"
            yield f"source {clean(source.name)}: {clean(source.error)} ({read})"


def _times(wait: WaitStatus, now: float) -> str:
    parts = []
    if wait.since_wall is not None:
        parts.append(since(wait.since_wall, now))
    if wait.until_wall is not None:
        parts.append(until(wait.until_wall, now))
    return f" ({'; '.join(parts)})" if parts else ""


def _without_waits(vm: VMStatus) -> str:
    if vm.sync == "synced" and vm.healthy:
        return "it runs as desired, and waits for nothing"
    if vm.unasked:
        return "its checks have not run in this daemon yet; they will in a moment"
    if not vm.healthy and vm.probe:
        return f"its checks: {clean(vm.probe)}"
    return "it waits for nothing: the daemon is at work, see `reconciler plan`"
