"""One VM: how it is and why, its generations with their verdicts, and the end of its console."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from reconciler.control.page.badges import badge, health
from reconciler.control.page.fleet import generation
from reconciler.control.page.frame import Pieces
from reconciler.control.page.html import Html, h, join, moment, short
from reconciler.model.names import GenerationNumber
from reconciler.model.plan import FieldChange
from reconciler.model.record import Evidence, Generation, VMRecord
from reconciler.model.status import VMStatus

Differ = Callable[[GenerationNumber, GenerationNumber], Sequence[FieldChange]]


def vm_page(vm: VMStatus, record: VMRecord | None, differ: Differ, console: str) -> Pieces:
    """`record` is None while nothing was done for the VM yet."""
    parts = {
        "now": _now(vm),
        "facts": _facts(vm, record),
        "history": _history(record, differ),
        "console": _console(console),
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
    waits = [
        h("li", wait.why, join([" - until ", moment(wait.until_wall)]) if wait.until_wall else None)
        for wait in vm.waits
    ]
    why = (
        h("ul", *waits, class_="why") if waits else h("p", vm.why, class_="why") if vm.why else None
    )
    return h("section", h("h1", vm.name), h("p", join(states, " ")), why, id="now", class_="now")


def _facts(vm: VMStatus, record: VMRecord | None) -> Html:
    numbers = vm.generation
    facts: list[tuple[str, Html | str]] = [
        ("Runs generation", generation(numbers.running)),
        ("Wants generation", generation(numbers.desired)),
        ("Last good", generation(numbers.last_good)),
        ("Newest answer of its checks", vm.probe or "not asked"),
        ("Guest started", moment(vm.started_wall)),
        ("Group", vm.group or "none"),
        ("Restarts", ", ".join(f"{count} by {reason}" for reason, count in vm.restarts) or "none"),
        ("Ports of the host", ", ".join(map(str, vm.ports)) or "none"),
        ("Process", str(vm.pid) if vm.pid else "none"),
        ("Digest", short(vm.digest)),
    ]
    if record is not None and record.quarantine is not None:
        facts.append(("Quarantine", record.quarantine.reason))
    if record is not None and record.pin is not None:
        facts.append(("Kept by a person at", generation(record.pin.generation)))
    rows = [h("div", h("dt", name), h("dd", value)) for name, value in facts]
    return h("section", h("dl", *rows), id="facts", aria_label="Facts")


def _history(record: VMRecord | None, differ: Differ) -> Html:
    made = list(reversed(record.generations)) if record else []
    older: dict[GenerationNumber, GenerationNumber] = {
        newer.number: before.number for newer, before in pairwise(made)
    }
    rows = [_generation(one, older.get(one.number), differ) for one in made]
    columns = ("Generation", "Verdict", "Revision", "Made", "Why")
    heads = [h("th", column, scope="col") for column in columns]
    table = h("table", h("thead", h("tr", *heads)), h("tbody", *rows))
    return h(
        "section",
        h("h2", "Generations"),
        table if rows else h("p", "None was made yet.", class_="empty"),
        id="history",
    )


def _generation(one: Generation, before: GenerationNumber | None, differ: Differ) -> Html:
    why = join([h("span", one.reason, class_="why"), _evidence(one), _changes(one, before, differ)])
    return h(
        "tr",
        h("th", one.number, scope="row", data_label="Generation"),
        h("td", badge(one.verdict), data_label="Verdict"),
        h("td", short(one.revision), data_label="Revision"),
        h("td", moment(one.created_wall), data_label="Made"),
        h("td", why, data_label="Why", class_="words"),
    )


def _evidence(one: Generation) -> Html | None:
    found: Evidence | None = one.evidence
    if found is None:
        return None
    lines = [h("p", text) for text in (found.exit, found.probe) if text]
    last_words = h("pre", "\n".join(found.console)) if found.console else None
    return h(
        "details", h("summary", f"Evidence: {found.kind}"), *lines, last_words,
        id=f"evidence-{one.number}",
    )  # fmt: skip


def _changes(one: Generation, before: GenerationNumber | None, differ: Differ) -> Html | None:
    if before is None:
        return None
    found = differ(before, one.number)
    if not found:
        return None
    items = [
        h("li", h("code", change.path), " ", h("del", change.old), " ", h("ins", change.new))
        for change in found
    ]
    title = f"{len(items)} {'change' if len(items) == 1 else 'changes'} since generation {before}"
    return h("details", h("summary", title), h("ul", *items), id=f"changes-{one.number}")


def _console(text: str) -> Html:
    inside = (
        h("pre", text, tabindex="0", aria_label="Console")
        if text
        else h("p", "Nothing was said.", class_="empty")
    )
    return h("section", h("h2", "Console"), inside, id="console")


def missing_page(name: str) -> Pieces:
    text = h("p", "It is not in the desired state, or never was. ", h("a", "All VMs", href="/"))
    return Pieces("No such VM - microVMs", (), {}, join([h("h1", f"No VM is called {name}"), text]))
