"""A rollout as it runs: who moves, who is next, who is held, and by when it must go on."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.control.page.badges import badge, health
from reconciler.control.page.fleet import group_state, vm_link, waiting
from reconciler.control.page.frame import Pieces
from reconciler.control.page.html import Html, h, join, moment
from reconciler.model.status import GroupStatus, VMStatus

MOST_NAMED = 50
"""VMs of one list; the fleet's page has all."""


def group_page(group: GroupStatus, members: Sequence[VMStatus]) -> Pieces:
    by_name = {vm.name: vm for vm in members}
    done = [vm.name for vm in members if vm.sync == "synced"]
    lists = (
        ("moving", "Moving now", group.moving, "Nobody moves."),
        ("line", "Next, in this order", group.line, "Nobody waits for a turn."),
        ("held", "Held until somebody acts", group.held, "Nobody is held."),
        ("done", "At their desired generation", tuple(done), "Nobody is there yet."),
    )
    parts = {"now": _now(group, len(done))}
    for name, title, vms, none in lists:
        parts[name] = _list(name, title, [by_name[vm] for vm in vms if vm in by_name], none)
    head = h("p", h("a", "All VMs", href="/"), class_="back")
    title = f"{group.name}: {group_state(group)} - microVMs"
    return Pieces(title, tuple(parts), parts, join([head, *parts.values()]))


def _now(group: GroupStatus, done: int) -> Html:
    facts = [
        f"{done} of {group.members} at their desired generation",
        f"{group.unavailable} down of at most {group.max_unavailable}",
    ]
    by = None
    if group.deadline_wall is not None:
        by = h(
            "p", "The next one must be healthy at the latest: ", moment(group.deadline_wall), "."
        )
    share = h(
        "progress", value=str(done), max=str(max(group.members, 1)),
        aria_label=f"{done} of {group.members} are done",
    )  # fmt: skip
    return h(
        "section",
        h("h1", group.name),
        h("p", badge(group_state(group))),
        share,
        h("p", "; ".join(facts), "."),
        by,
        h("p", "Held: ", group.hold, class_="why bad") if group.hold else None,
        id="now", class_="now",
    )  # fmt: skip


def _list(name: str, title: str, vms: Sequence[VMStatus], none: str) -> Html:
    shown = [_member(name, vm) for vm in vms[:MOST_NAMED]]
    if len(vms) > MOST_NAMED:
        shown.append(h("li", f"and {len(vms) - MOST_NAMED} more", class_="none"))
    ordered = "ol" if name == "line" else "ul"
    inside = h(ordered, *shown, class_="members") if shown else h("p", none, class_="empty")
    heading = h("h2", title, " ", h("span", f"({len(vms)})", class_="none"))
    return h("section", heading, inside, id=name)


def _member(name: str, vm: VMStatus) -> Html:
    if name == "done":
        return h("li", vm_link(vm.name), " ", health(vm))
    waits = [waiting(wait) for wait in vm.waits]
    why = h("span", join(waits, "; "), class_="why")
    return h("li", vm_link(vm.name), " ", badge(vm.state), " ", health(vm), " ", why)
