"""One VM: how it is and why, its checks over time, its generations, and the end of its console."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from reconciler.control.page.badges import badge, health
from reconciler.control.page.chart import chart
from reconciler.control.page.fleet import generation, runs, waiting
from reconciler.control.page.frame import Pieces
from reconciler.control.page.generations import Differ, Pair, compare, history, upcoming
from reconciler.control.page.html import Html, h, join, moment, short
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


ALIVE = {True: "yes", False: "no: it must be restarted", None: "not known"}
"""By what decides on a restart, readiness left aside."""


def vm_page(seen: Seen) -> Pieces:
    vm = seen.vm
    parts = {
        "now": _now(vm),
        "upcoming": upcoming(seen.upcoming),
        "facts": _facts(vm, seen.record),
        "checks": chart(seen.rounds),
        "history": history(seen.record, seen.differ),
        "compare": compare(vm.name, seen.record, seen.pair, seen.differ),
        "console": _console(seen.console),
    }
    head = h("p", h("a", "All VMs", href="/"), class_="back")
    state = vm.state if vm.healthy or vm.state != "running" else "not healthy"
    title = f"{vm.name}: {state} - microVMs"
    return Pieces(title, tuple(parts), parts, join([head, *parts.values()]))


def _now(vm: VMStatus) -> Html:
    states = [
        badge(vm.state),
        health(vm),
        badge(vm.sync),
    ]
    waits = [h("li", waiting(wait)) for wait in vm.waits]
    why = (
        h("ul", *waits, class_="why") if waits else h("p", vm.why, class_="why") if vm.why else None
    )
    return h("section", h("h1", vm.name), h("p", join(states, " ")), why, id="now", class_="now")


def _facts(vm: VMStatus, record: VMRecord | None) -> Html:
    numbers = vm.generation
    group = h("a", vm.group, href=f"/group/{quote(vm.group)}") if vm.group else "none"
    facts: list[tuple[str, Html | str]] = [
        ("Runs generation", runs(vm)),
        ("Wants generation", generation(numbers.desired)),
        ("Last good", generation(numbers.last_good)),
        ("Of revision", short(vm.revision)),
        ("Newest answer of its checks", vm.probe or "not asked"),
        ("Guest started", moment(vm.started_wall)),
        ("Group", group),
        ("Ready", "not asked yet" if vm.unasked else "yes" if vm.healthy else "no"),
        ("Alive", ALIVE[vm.alive]),
        ("Restarts", ", ".join(f"{count} by {reason}" for reason, count in vm.restarts) or "none"),
        ("Newest restart", _newest(vm)),
        ("Ports of the host", ", ".join(map(str, vm.ports)) or "none"),
        ("Process", str(vm.pid) if vm.pid else "none"),
        ("Digest", short(vm.digest)),
    ]
    if record is not None and record.quarantine is not None:
        facts.append(("Quarantine", record.quarantine.reason))
    if record is not None and record.pin is not None:
        facts.append(("Kept by a person at", generation(record.pin.generation)))
    rows = [h("div", h("dt", name), h("dd", value)) for name, value in facts]
    return h("section", h("h2", "Facts", class_="hidden"), h("dl", *rows), id="facts")


def _newest(vm: VMStatus) -> Html | str:
    last = vm.restarted
    if last is None:
        return "none"
    return join([moment(last.wall), f" {last.reason}{f': {last.why}' if last.why else ''}"])


def _console(text: str) -> Html:
    inside = (
        h("pre", text, tabindex="0", role="region", aria_label="Console")
        if text
        else h("p", "Nothing was said.", class_="empty")
    )
    return h("section", h("h2", "Console"), inside, id="console")
