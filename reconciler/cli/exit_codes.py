"""Exit codes of the commands, and errors as two short lines."""

from __future__ import annotations

from enum import IntEnum

import typer

from reconciler.errors import ReconcilerError
from reconciler.safe_text import clean


class ExitCode(IntEnum):
    """What scripts may rely on; see docs/operations."""

    OK = 0
    ERROR = 1
    CHANGES = 2
    """`plan`: something would be done."""
    UNHEALTHY = 3
    """`status`: a VM is not healthy."""
    ROLLED_BACK = 4
    """`reconcile --wait`: the change failed, and the last good generations serve again."""
    ROLLBACK_FAILED = 5
    """`reconcile --wait`: the change failed, and so did its rollback."""
    BLOCKED = 6
    """`status`: all VMs are healthy, but a desired digest was condemned."""
    CONFIG = 78
    """EX_CONFIG of sysexits.h; the unit tells systemd not to restart the daemon after it."""
    INTERRUPTED = 130
    """128 + SIGINT, as shells define it."""


def report(error: ReconcilerError) -> None:
    """Print an error and its hint on standard error."""
    complain(str(error), error.hint)


def complain(message: str, hint: str = "") -> None:
    """Print two lines on standard error: what is wrong, and a hint."""
    typer.echo(f"reconciler: {clean(message)}", err=True)
    if hint:
        typer.echo(f"hint: {clean(hint)}", err=True)
