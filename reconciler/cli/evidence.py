"""What a condemned digest leaves: its attempts, the last answer of its checks, its last words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.cli.terminal import age, count, say, short
from reconciler.control.reports import BlockedBrief
from reconciler.model.record import Evidence
from reconciler.safe_text import clean

if TYPE_CHECKING:
    from rich.console import Console

INDENT = "  "


def show_condemned(blocked: BlockedBrief, out: Console, now: float, vm: str, *, lines: int) -> None:
    """One digest of `vm`; of its console the last `lines`."""
    of = f" of revision {short(blocked.revision)}" if blocked.revision else ""
    say(
        out,
        f"blocked: digest {short(blocked.digest)} (generation {blocked.generation}{of}), "
        f"{_attempts(blocked, now)}: {clean(blocked.reason)}",
        "red",
    )
    if blocked.evidence is not None:
        show_evidence(blocked.evidence, out, vm, lines=lines, said=blocked.reason)


def _attempts(blocked: BlockedBrief, now: float) -> str:
    last = f"{age(now - blocked.last_wall)} ago"
    if blocked.attempts <= 1 or not blocked.first_wall:
        return last
    return f"{count(blocked.attempts, 'attempt')} from {age(now - blocked.first_wall)} to {last}"


def show_evidence(evidence: Evidence, out: Console, vm: str, *, lines: int, said: str = "") -> None:
    """Without what the reason `said` already."""
    for label, text in (("checks", evidence.probe), ("ended", evidence.exit)):
        if text and text not in said:
            say(out, f"{INDENT}{label}: {clean(text)}", hang=4)
    if not evidence.console:
        out.print(f"{INDENT}its console: `reconciler logs {clean(vm)}`", style="dim")
        return
    out.print(f"{INDENT}the end of its console:", style="dim")
    for line in evidence.console[-lines:]:
        say(out, INDENT * 2 + clean(line), hang=6)
