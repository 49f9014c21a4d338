"""A rollout as it runs: who moves, who is next, who is held, and by when it must go on."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.control.page.fleet import group_state
from reconciler.control.page.frame import Pieces
from reconciler.control.page.rendering import join, macro
from reconciler.model.status import GroupStatus, VMStatus

MOST_NAMED = 50
"""VMs of one list; the fleet's page has all."""


def group_page(group: GroupStatus, members: Sequence[VMStatus]) -> Pieces:
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
