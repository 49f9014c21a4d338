"""Output for terminals and pipes; texts of guests and commits cannot control the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from reconciler.model.build_progress import BuildStatus, progress_text
from reconciler.safe_text import clean

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

NARROWEST = 30
"""Columns that indented text needs; with fewer it is not indented."""
PIPE_WIDTH = 200
"""Columns of a table in a pipe, wide enough that nothing is cut."""
MOST_BUILDS = 5
"""Builds that are shown; as a rule two run at once."""


def console(*, stderr: bool = False) -> Console:
    """A console of the terminal's width; in a pipe it is wide, so that grep finds whole lines."""
    from rich.console import Console  # noqa: PLC0415 - only text output pays for it

    out = Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=False)
    if not (sys.stderr if stderr else sys.stdout).isatty() and not _columns_set():
        out.width = PIPE_WIDTH
    return out


def say(out: Console, text: Text | str, style: str = "", *, hang: int = 2) -> None:
    """Print a line. On a terminal it is wrapped, with further lines indented by `hang` columns.

    In a pipe it stays one line, for grep.
    """
    from rich.text import Text  # noqa: PLC0415 - only text output pays for it

    line = text if isinstance(text, Text) else Text(text)
    if style:
        line.stylize(style)
    if not out.is_terminal:
        out.print(line, soft_wrap=True)
        return
    hang = hang if out.width - hang >= NARROWEST else 0
    head, *rest = line.wrap(out, out.width)
    out.print(head)
    if rest:
        # The rest is wrapped again, because it has less room.
        left = line[len(head.plain) :]
        left = left[len(left.plain) - len(left.plain.lstrip()) :]
        for part in left.wrap(out, out.width - hang):
            out.print(Text(" " * hang).append_text(part))


def _columns_set() -> bool:
    return os.environ.get("COLUMNS", "").isdigit()


def wall() -> float:
    """Unix time."""
    from reconciler.clock import SystemClock  # noqa: PLC0415 - loads asyncio

    return SystemClock().now().wall


def short(commit: str | None) -> str:
    """The first 8 digits of a commit or digest; `-` for none."""
    return clean(commit[:8]) if commit else "-"


def age(seconds: float) -> str:
    """A duration as one figure: `42 s`, `17 min`, `5 h`, `12 d`."""
    seconds = max(0.0, seconds)
    for limit, unit, size in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def count(number: int, noun: str) -> str:
    """`1 VM`, `2 VMs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def build_lines(builds: Sequence[BuildStatus], now: float, *, vms: bool = True) -> list[str]:
    """What is built, a line for each: `oci app: fetching, 34 MiB of 120 MiB, for 12 s (web, db)`.

    `vms`: with those that it is for.
    """
    lines = [_build_line(build, now, vms=vms) for build in builds[:MOST_BUILDS]]
    if len(builds) > MOST_BUILDS:
        lines.append(f"and {len(builds) - MOST_BUILDS} more are built")
    return lines


def _build_line(build: BuildStatus, now: float, *, vms: bool) -> str:
    line = f"{clean(build.title)}: {clean(progress_text(build))}, for {age(now - build.since_wall)}"
    if vms and build.vms:
        more = f" and {build.more} more" if build.more else ""
        line += f" ({', '.join(map(clean, build.vms))}{more})"
    return line
