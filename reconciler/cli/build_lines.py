"""Builds that run, as lines for people: `oci acme/app: fetching, 34 MiB of 120 MiB, for 12 s (web, db)`."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.cli.terminal import age
from reconciler.model.build_progress import BuildStatus, progress_text
from reconciler.safe_text import clean

MOST_LINES = 5
"""Builds that are shown; as a rule two run at once."""


def build_lines(builds: Sequence[BuildStatus], now: float, *, vms: bool = True) -> list[str]:
    """A line for each, the one that began first on top; `vms`: with those that it is for."""
    lines = [_line(build, now, vms=vms) for build in builds[:MOST_LINES]]
    if len(builds) > MOST_LINES:
        lines.append(f"and {len(builds) - MOST_LINES} more are built")
    return lines


def _line(build: BuildStatus, now: float, *, vms: bool) -> str:
    line = f"{clean(build.title)}: {clean(progress_text(build))}, for {age(now - build.since_wall)}"
    if vms and build.vms:
        more = f" and {build.more} more" if build.more else ""
        line += f" ({', '.join(map(clean, build.vms))}{more})"
    return line
