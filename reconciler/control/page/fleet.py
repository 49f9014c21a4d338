"""The fleet at a glance: what needs a person first, then every VM by group."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from urllib.parse import quote, urlencode

from reconciler.control.page.badges import BAD, BUSY, CALM, GOOD, badge, health
from reconciler.control.page.frame import Pieces
from reconciler.control.page.html import Html, h, join, moment, short
from reconciler.model.event import Event
from reconciler.model.names import GenerationNumber
from reconciler.model.status import GroupStatus, HostStatus, RevisionStatus, VMStatus, WaitStatus

COLUMNS = (
    "VM",
    "State",
    "Health",
    "Sync",
    "Runs",
    "Wants",
    "Last good",
    "Revision",
    "Since",
    "Why",
)
TITLES = {
    "Runs": "The generation that runs",
    "Wants": "The generation that the repository wants",
    "Last good": "The generation that a rollback goes to",
}
OTHER_TITLES = {
    "Revision": "The commit of which the generation that runs was made",
    "Since": "When the guest was started",
}
MOST_PROBLEMS = 20
UNWELL = {
    "rolled-back": "was rolled back",
    "rollback-failed": "failed, and so did going back",
    "failed": "failed",
    "waiting": "waits",
}
"""Results of the newest revision that a person should read."""
PAGE = 100
"""VMs of one page: as many as a browser replaces without a stutter."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody wants to see of the fleet."""

    wanted: str = ""
    """Only VMs in whose row this text stands."""
    number: int = 1
    """The page, from 1."""

    def address(self, number: int) -> str:
        given = {"q": self.wanted} if self.wanted else {}
        query = urlencode({**given, "page": str(number)})
        return f"/?{query}"


def fleet_page(status: HostStatus, events: Sequence[Event], asked: Asked = Asked()) -> Pieces:
    found = [vm for vm in status.vms if matches(vm, asked.wanted)] if asked.wanted else status.vms
    by_group = sorted(found, key=lambda vm: (not vm.group, vm.group, vm.name))
    pages = max(1, math.ceil(len(by_group) / PAGE))
    number = min(asked.number, pages)
    shown = by_group[(number - 1) * PAGE : number * PAGE]
    groups = {group.name: group for group in status.groups}
    parts: dict[str, Html] = {"summary": _summary(status), "notices": _notices(status)}
    if pages > 1 and not asked.wanted:
        parts["attention"] = _attention(status.vms)
    head = [*parts.values(), _search(asked.wanted, len(found), len(status.vms))]
    sections = []
    for name, members in groupby(shown, key=lambda vm: vm.group):
        parts[f"group-{name}"] = _group_head(name, groups.get(name))
        rows = {f"vm-{vm.name}": row(vm) for vm in members}
        parts |= rows
        sections.append(_section(name, parts[f"group-{name}"], list(rows.values())))
    parts["events"] = _events(events)
    body = join([
        *head, *(sections or [h("p", _without_vms(status), class_="empty")]),
        _pages(asked, number, pages), parts["events"],
    ])  # fmt: skip
    well = sum(vm.healthy for vm in status.vms)
    return Pieces(f"{well}/{len(status.vms)} healthy - microVMs", tuple(parts), parts, body)


def _pages(asked: Asked, number: int, pages: int) -> Html | None:
    if pages == 1:
        return None
    links = [
        h("a", one, href=asked.address(one), aria_current="page" if one == number else None,
          aria_label=f"Page {one} of {pages}")
        for one in range(1, pages + 1)
    ]  # fmt: skip
    return h("nav", "Page ", join(links, " "), aria_label="Pages", class_="pages")


def _attention(vms: Sequence[VMStatus]) -> Html:
    """With many pages: who needs a look stands on the first that is seen."""
    ill = [vm for vm in vms if vm.sync == "blocked" or (not vm.healthy and not vm.unasked)]
    if not ill:
        return h("div", id="attention")
    items = [
        h("li", vm_link(vm.name), " ", badge(vm.state), " ", health(vm), " ", badge(vm.sync), " ",
          h("span", vm.why, class_="why"))
        for vm in ill[:MOST_PROBLEMS]
    ]  # fmt: skip
    if len(ill) > MOST_PROBLEMS:
        items.append(h("li", f"and {len(ill) - MOST_PROBLEMS} more", class_="none"))
    title = h("h2", "Need a look ", h("span", f"({len(ill)})", class_="none"))
    return h("section", title, h("ul", *items, class_="members"), id="attention")


def matches(vm: VMStatus, wanted: str) -> bool:
    text = " ".join(
        (vm.name, vm.group, vm.state, vm.sync, "healthy" if vm.healthy else "unhealthy")
    )
    return all(word in text.split() or word in text for word in wanted.lower().split())


def _summary(status: HostStatus) -> Html:
    vms, revision = status.vms, status.revision
    ill = sum(not vm.healthy and not vm.unasked for vm in vms)
    unasked = sum(vm.unasked for vm in vms)
    counts = [
        (len(vms), "VM" if len(vms) == 1 else "VMs", CALM),
        (len(vms) - ill - unasked, "healthy", GOOD),
        (unasked, "not asked yet", BUSY),
        (ill, "not healthy", BAD),
        *((sum(vm.sync == s for vm in vms), s, look) for s, look in
          (("out-of-sync", BUSY), ("blocked", BAD), ("suspended", CALM))),
    ]  # fmt: skip
    numbers = [
        h("li", h("strong", number), f" {word}", class_=look)
        for number, word, look in counts
        if number or word in ("VMs", "healthy")
    ]
    applied = (
        h("span", "applied everywhere")
        if revision.observed and revision.applied == revision.observed
        else h("span", "applied: ", short(revision.applied))
    )
    return h(
        "section",
        h("h1", "Fleet", class_="hidden"),
        h("ul", *numbers, class_="numbers"),
        h("p", "Revision ", short(revision.observed), ", ", applied, "."),
        _result(revision),
        id="summary", aria_label="Summary",
    )  # fmt: skip


def _without_vms(status: HostStatus) -> str:
    if status.revision.observed is None:
        return "No revision was read yet, so no VM is known."
    return "No VM to show."


def _result(revision: RevisionStatus) -> Html | None:
    """What became of the newest revision, and why, where that is not well."""
    words = UNWELL.get(revision.result)
    return h("p", f"It {words}: {revision.why}", class_="why bad") if words else None


def _notices(status: HostStatus) -> Html:
    revision = status.revision
    told = [h("p", alert, class_="notice bad") for alert in status.alerts]
    if status.suspended:
        told.append(h("p", "This host is suspended: nothing is done until it is resumed.", class_="notice busy"))  # fmt: skip
    if revision.rejected:
        problems = [h("li", problem) for problem in revision.problems[:MOST_PROBLEMS]]
        more = revision.problem_count - len(problems)
        told.append(
            h(
                "div",
                h(
                    "p",
                    "Revision ",
                    short(revision.rejected),
                    " was refused; the one before stays.",
                ),
                h("ul", *problems, h("li", f"and {more} more") if more > 0 else None),
                class_="notice bad",
            )
        )
    for source in status.sources:
        if source.error or source.failures:
            since = join(["; last read ", moment(source.last_success_wall)])
            text = join([f"Source {source.name} cannot be read: {source.error}", since])
            told.append(h("p", text, class_="notice bad"))
    return h("div", *told, id="notices")


def _search(wanted: str, shown: int, all_of_them: int) -> Html:
    field = h("input", type="search", name="q", value=wanted, placeholder="name, group or state")
    found = [
        h("span", f"{shown} of {all_of_them}", class_="none"),
        h("a", "show all", href="/"),
    ]
    return h(
        "form",
        h("label", "Find ", field),
        h("button", "Find"),
        *(found if wanted else ()),
        method="get",
        action="/",
        role="search",
    )


def _section(name: str, head: Html, rows: Sequence[Html]) -> Html:
    heads = [
        h("th", column, scope="col", title={**TITLES, **OTHER_TITLES}.get(column))
        for column in COLUMNS
    ]
    table = h(
        "table",
        h("caption", f"VMs of {name}" if name else "VMs without a group", class_="hidden"),
        h("thead", h("tr", *heads)),
        h("tbody", *rows),
    )
    return h("section", head, table, class_="group")


def _group_head(name: str, group: GroupStatus | None) -> Html:
    if group is None:
        return h("div", h("h2", name or "Without a group"), id=f"group-{name}", class_="head")
    members = "1 VM" if group.members == 1 else f"{group.members} VMs"
    facts = [f"{members}, {group.unavailable} down of at most {group.max_unavailable}"]
    if group.pending:
        facts.append(f"{group.pending} yet to move")
    if group.line:
        facts.append(f"next: {group.line[0]}")
    return h(
        "div",
        h("h2", h("a", group.name, href=f"/group/{quote(group.name)}"), " ", badge(group_state(group))),
        h("p", "; ".join(facts), "."),
        h("p", "Held: ", group.hold, class_="why bad") if group.hold else None,
        id=f"group-{name}", class_="head",
    )  # fmt: skip


def group_state(group: GroupStatus) -> str:
    return "rolling out" if group.state == "running" else group.state


def vm_link(name: str) -> Html:
    return h("a", name, href=f"/vm/{quote(name)}")


@lru_cache(maxsize=2048)
def row(vm: VMStatus) -> Html:
    """Kept, since of many VMs few change from one look to the next."""
    numbers = (vm.generation.desired, vm.generation.last_good)
    cells: Iterable[Html] = (
        badge(vm.state),
        health(vm),
        badge(vm.sync),
        runs(vm),
        *(generation(number) for number in numbers),
        short(vm.revision),
        moment(vm.started_wall),
        h("span", vm.why, class_="why"),
    )
    labelled = zip(COLUMNS[1:], cells, strict=True)
    return h(
        "tr",
        h("th", vm_link(vm.name), scope="row"),
        *(h("td", cell, data_label=label, class_=_kind(label)) for label, cell in labelled),
        id=f"vm-{vm.name}",
    )


def _kind(label: str) -> str | None:
    if label in TITLES:
        return "number"
    return "words" if label == "Why" else None


def waiting(wait: WaitStatus) -> Html:
    """Why, and where time alone ends it, when."""
    until = wait.until_wall
    return join([wait.why, *([" - at the latest: ", moment(until)] if until is not None else [])])


def runs(vm: VMStatus) -> Html:
    """The generation that serves, and the one that starts up beside it to take over."""
    serves = generation(vm.generation.running)
    return serves if vm.candidate is None else join([serves, f" + {vm.candidate}"])


def generation(number: GenerationNumber | None) -> Html:
    return h("span", "-", class_="none") if number is None else h("span", number)


def _events(events: Sequence[Event]) -> Html:
    items = [
        h("li", moment(event.wall), " ", badge(event.severity), " ", h("span", event.message))
        for event in reversed(events)
    ]
    inside = h("ol", *items) if items else h("p", "Nothing has happened yet.", class_="empty")
    return h("section", h("h2", "What happened"), inside, id="events", class_="events")
