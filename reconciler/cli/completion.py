"""Names for the shell's completion, from a daemon that answers soon; without one there are none."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import typer

from reconciler.cli.daemon_client import find_daemon
from reconciler.errors import ReconcilerError
from reconciler.model.names import NAME_RE
from reconciler.model.status import HostStatus

COMPLETE = "_RECONCILER_COMPLETE"
"""What the shells set in the environment when they ask for completions."""
SECONDS = 1.0
"""That a person who pressed the tab key waits at most."""
KINDS = ("vm", "group")


def vms(context: typer.Context, incomplete: str) -> list[str]:
    """Names of VMs that begin like this."""
    return _beginning(_names(context)["vm"], incomplete)


def groups(context: typer.Context, incomplete: str) -> list[str]:
    return _beginning(_names(context)["group"], incomplete)


def subjects(context: typer.Context, incomplete: str) -> list[str]:
    """VMs and groups; with their kind before them once that was begun."""
    named = _names(context)
    if "/" in incomplete:
        kind = incomplete.partition("/")[0]
        return _beginning((f"{kind}/{name}" for name in named.get(kind, ())), incomplete)
    return _beginning((*named["vm"], *named["group"]), incomplete)


def prepare() -> None:
    """Know the shells of typer's scripts; it does so by itself only where it may install them."""
    if COMPLETE in os.environ:
        from typer.completion import (  # type: ignore[attr-defined]  # noqa: PLC0415 - only shells need it
            completion_init,
        )

        completion_init()


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted({name for name in names if name.startswith(incomplete)})


def _names(context: typer.Context) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {kind: [] for kind in KINDS}
    with contextlib.suppress(ReconcilerError, OSError, ValueError):
        status = find_daemon(*_given(context)).get(HostStatus, "status", timeout=SECONDS)
        # A shell may take what it is given for words of its own: nothing but names gets there.
        found["vm"] = [vm.name for vm in status.vms if NAME_RE.fullmatch(vm.name)]
        found["group"] = [one.name for one in status.groups if NAME_RE.fullmatch(one.name)]
    return found


def _given(context: typer.Context) -> Iterator[Path | None]:
    """`--socket` and `--config` as far as they are on the line."""
    for name in ("socket", "config"):
        value = context.params.get(name)
        yield Path(value) if value else None
