"""One VM: how it is and why, its checks over time, its generations, and the end of its console."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from reconciler.control.page.chart import chart
from reconciler.control.page.frame import Pieces
from reconciler.control.page.generations import Differ, Pair, compare, history, upcoming
from reconciler.control.page.rendering import join, macro
from reconciler.model.plan import FieldChange
from reconciler.model.record import VMRecord
from reconciler.model.status import ProbeStatus, VMStatus


@dataclass(frozen=True, slots=True)
class Seen:
    """All that is known of one VM."""

    vm: VMStatus
    record: VMRecord | None
    """None while nothing was done for it yet."""
    differ: Differ
    console: str = ""
    rounds: Sequence[ProbeStatus] = ()
    upcoming: Sequence[FieldChange] = field(default=())
    pair: Pair | None = None


def vm_page(seen: Seen) -> Pieces:
    """All of one VM, in parts that change one by one."""
    vm, record = seen.vm, seen.record
    parts = {
        "now": macro("vm.html", "now", vm),
        "upcoming": upcoming(seen.upcoming),
        "facts": macro("vm.html", "facts", vm, record),
        "checks": chart(seen.rounds),
        "history": history(record, seen.differ),
        "compare": compare(vm.name, record, seen.pair, seen.differ),
        "console": macro("vm.html", "console", seen.console),
    }
    head = macro("shared.html", "way_back")
    state = vm.state if vm.healthy or vm.state != "running" else "not healthy"
    title = f"{vm.name}: {state} - microVMs"
    return Pieces(title, tuple(parts), parts, join([head, *parts.values()]))
