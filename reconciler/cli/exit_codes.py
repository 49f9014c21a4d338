"""Exit codes, as the design's table has them, and errors as two short lines."""

from __future__ import annotations

from enum import IntEnum

import typer

from reconciler.errors import ReconcilerError
from reconciler.safe_text import clean


class ExitCode(IntEnum):
    OK = 0
    ERROR = 1
    CHANGES = 2
    """`plan`: something would be done."""
    UNHEALTHY = 3
    ROLLED_BACK = 4
    ROLLBACK_FAILED = 5
    BLOCKED = 6
    CONFIG = 78
    """EX_CONFIG of sysexits.h; systemd is told not to start the daemon again on it."""
    INTERRUPTED = 130
    """128 + SIGINT, as shells have it."""


def report(error: ReconcilerError) -> None:
    complain(str(error), error.hint)


def complain(message: str, hint: str = "") -> None:
    """Two lines on stderr: what is wrong, and what to do."""
    typer.echo(f"reconciler: {clean(message)}", err=True)
    if hint:
        typer.echo(f"hint: {clean(hint)}", err=True)
