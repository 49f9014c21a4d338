"""One VM: how it is and why, its checks over time, its generations and how they differ, and its console."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from markupsafe import Markup

from reconciler.control.page.chart import chart
from reconciler.control.page.fleet import builds
from reconciler.control.page.frame import Pieces
from reconciler.control.page.rendering import join, macro
from reconciler.model.build_progress import BuildStatus
from reconciler.model.names import GenerationNumber
from reconciler.model.plan import FieldChange
from reconciler.model.record import VMRecord
from reconciler.model.status import ProbeStatus, VMStatus

GENERATIONS = "generations.html"

Differ = Callable[[GenerationNumber, GenerationNumber], Sequence[FieldChange]]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two generations that a person wants to compare."""

    a: GenerationNumber
    b: GenerationNumber


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
    builds: Sequence[BuildStatus] = ()
    """What is fetched and built for it now."""


def vm_page(seen: Seen) -> Pieces:
    """All of one VM, in parts that change one by one."""
    vm, record = seen.vm, seen.record
    parts = {
        "now": macro("vm.html", "now", vm),
        "builds": builds(seen.builds),
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


def history(record: VMRecord | None, differ: Differ) -> Markup:
    """All that are kept, the newest first, each with what it changed."""
    made = list(reversed(record.generations)) if record else []
    older = {newer.number: before.number for newer, before in pairwise(made)}
    rows = []
    for one in made:
        before = older.get(one.number)
        rows.append((one, before, differ(before, one.number) if before is not None else ()))
    return macro(GENERATIONS, "history", rows)


def upcoming(found: Sequence[FieldChange]) -> Markup:
    """What the next generation changes."""
    return macro(GENERATIONS, "upcoming", found)


def compare(name: str, record: VMRecord | None, pair: Pair | None, differ: Differ) -> Markup:
    """A form that asks for two generations; with `pair`, what differs between them too."""
    numbers = [one.number for one in record.generations] if record else []
    return macro(
        GENERATIONS, "compare", name, numbers, pair, differ(pair.a, pair.b) if pair else ()
    )
