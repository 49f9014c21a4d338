"""Names for shell completion, from the daemon; none if it does not answer quickly."""

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
"""Environment variable that shells set to ask for completions."""
SECONDS = 1.0
"""How long a person who pressed the tab key waits at most."""
KINDS = ("vm", "group")


def vms(context: typer.Context, incomplete: str) -> list[str]:
    """Names of VMs with this prefix."""
    return _beginning(_names(context)["vm"], incomplete)


def groups(context: typer.Context, incomplete: str) -> list[str]:
    """Names of groups with this prefix."""
    return _beginning(_names(context)["group"], incomplete)


def subjects(context: typer.Context, incomplete: str) -> list[str]:
    """Names of VMs and groups with this prefix, which may include the kind: `vm/we`."""
    named = _names(context)
    if "/" in incomplete:
        kind = incomplete.partition("/")[0]
        return _beginning((f"{kind}/{name}" for name in named.get(kind, ())), incomplete)
    return _beginning((*named["vm"], *named["group"]), incomplete)


def prepare() -> None:
    """Register typer's shells; typer itself does so only if it may install completion scripts."""
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
        # A shell may evaluate what it receives, so only valid names are passed on.
        found["vm"] = [vm.name for vm in status.vms if NAME_RE.fullmatch(vm.name)]
        found["group"] = [one.name for one in status.groups if NAME_RE.fullmatch(one.name)]
    return found


def _given(context: typer.Context) -> Iterator[Path | None]:
    """`--socket` and `--config`, if they are on the line."""
    for name in ("socket", "config"):
        value = context.params.get(name)
        yield Path(value) if value else None
