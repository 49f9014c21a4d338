"""The fleet at a glance, with what needs a person first, and the rollout of one group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from urllib.parse import urlencode

from markupsafe import Markup

from reconciler.control.page.frame import Pieces
from reconciler.control.page.rendering import BAD, BUSY, CALM, GOOD, join, macro
from reconciler.model.build_progress import BuildStatus, progress_text
from reconciler.model.event import Event
from reconciler.model.status import GroupStatus, HostStatus, VMStatus

TEMPLATE = "fleet.html"
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
    """Which VMs a person wants to see, and which page of them."""

    wanted: str = ""
    """Only VMs in whose row this text stands."""
    number: int = 1
    """The page, from 1."""

    def address(self, number: int) -> str:
        """The link to another page of the same search."""
        given = {"q": self.wanted} if self.wanted else {}
        query = urlencode({**given, "page": str(number)})
        return f"/?{query}"


def fleet_page(status: HostStatus, events: Sequence[Event], asked: Asked = Asked()) -> Pieces:
    """The page of all VMs, or of the VMs found; `events` are the newest, oldest first."""
    found = [vm for vm in status.vms if matches(vm, asked.wanted)] if asked.wanted else status.vms
    by_group = sorted(found, key=lambda vm: (not vm.group, vm.group, vm.name))
    pages = max(1, math.ceil(len(by_group) / PAGE))
    number = min(asked.number, pages)
    shown = by_group[(number - 1) * PAGE : number * PAGE]
    groups = {group.name: group for group in status.groups}
    revision = status.revision
    parts = {
        "summary": macro(TEMPLATE, "summary", revision, _counts(status.vms), UNWELL.get(revision.result)),
        "notices": macro(TEMPLATE, "notices", status, revision.problems[:MOST_PROBLEMS]),
        "builds": builds(status.builds),
    }  # fmt: skip
    if pages > 1 and not asked.wanted:
        parts["attention"] = macro(TEMPLATE, "attention", _ill(status.vms), MOST_PROBLEMS)
    search = macro(TEMPLATE, "search", asked.wanted, len(found), len(status.vms))
    body = [*parts.values(), search]
    for name, members in groupby(shown, key=lambda vm: vm.group):
        head = parts[f"group-{name}"] = _group_head(name, groups.get(name))
        rows = {f"vm-{vm.name}": row(vm) for vm in members}
        parts |= rows
        body.append(macro(TEMPLATE, "section", name, head, list(rows.values())))
    if not shown:
        body.append(macro(TEMPLATE, "nothing", revision))
    if pages > 1:
        addresses = [asked.address(one) for one in range(1, pages + 1)]
        body.append(macro(TEMPLATE, "page_links", addresses, number))
    parts["events"] = macro(TEMPLATE, "events", events)
    body.append(parts["events"])
    well = sum(vm.healthy for vm in status.vms)
    title = f"{well}/{len(status.vms)} healthy - microVMs"
    return Pieces(title, tuple(parts), parts, join(body))


def builds(found: Sequence[BuildStatus]) -> Markup:
    """What is fetched and built now, and how far that is."""
    return macro("shared.html", "builds", [(one, progress_text(one)) for one in found])


def _ill(vms: Sequence[VMStatus]) -> list[VMStatus]:
    return [vm for vm in vms if vm.sync == "blocked" or (not vm.healthy and not vm.unasked)]


def matches(vm: VMStatus, wanted: str) -> bool:
    """Whether each word of a search is in the VM's name, group, state, sync state or health."""
    text = " ".join(
        (vm.name, vm.group, vm.state, vm.sync, "healthy" if vm.healthy else "unhealthy")
    )
    return all(word in text.split() or word in text for word in wanted.lower().split())


def _counts(vms: Sequence[VMStatus]) -> list[tuple[int, str, str]]:
    """How many VMs are how: numbers with their word and its look."""
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
    return [
        (number, word, look)
        for number, word, look in counts
        if number or word in ("VMs", "healthy")
    ]


def _group_head(name: str, group: GroupStatus | None) -> Markup:
    return macro(TEMPLATE, "group_head", name, group, group_state(group) if group else None)


def group_state(group: GroupStatus) -> str:
    """The state of a group's rollout, in the page's words."""
    return "rolling out" if group.state == "running" else group.state


@lru_cache(maxsize=2048)
def row(vm: VMStatus) -> Markup:
    """Kept, since of many VMs few change from one look to the next."""
    return macro(TEMPLATE, "row", vm)


MOST_NAMED = 50
"""VMs of one list; the fleet's page has all."""


def group_page(group: GroupStatus, members: Sequence[VMStatus]) -> Pieces:
    """The page of one group; `members` are its VMs."""
    by_name = {vm.name: vm for vm in members}
    done = [vm.name for vm in members if vm.sync == "synced"]
    lists = (
        ("moving", "Moving now", group.moving, "No VM moves."),
        ("line", "Next, in this order", group.line, "No VM waits for its turn."),
        ("held", "On hold until a person acts", group.held, "Nothing is on hold."),
        ("done", "At their desired generation", tuple(done), "None yet."),
    )
    state = group_state(group)
    parts = {"now": macro("group.html", "now", group, state, len(done))}
    for name, title, vms, none in lists:
        found = [by_name[vm] for vm in vms if vm in by_name]
        parts[name] = macro("group.html", "members", name, title, found, none, MOST_NAMED)
    head = macro("shared.html", "way_back")
    title = f"{group.name}: {state} - microVMs"
    return Pieces(title, tuple(parts), parts, join([head, *parts.values()]))
