"""What is remembered of groups, images and VMs that nobody names any more: a host lives for years."""

from __future__ import annotations

from reconciler.model.names import VMName
from reconciler.planning.context import Draft
from reconciler.planning.preflight.images import named


def forget(draft: Draft) -> None:
    """Drop records of groups that are gone, and troubles of what nobody asks for.

    What a person suspended stays so, whoever is in it.
    """
    if draft.desired is None:
        return
    _forget_groups(draft)
    _forget_troubles(draft)


def _forget_groups(draft: Draft) -> None:
    desired = draft.desired
    remembered = draft.record.groups
    if desired is None or not remembered:
        return
    members = {standing.group for standing in draft.standings.values()}
    for name in sorted(remembered.keys() - members - desired.groups.keys()):
        if draft.group_record(name).suspended is None:
            draft.groups[name] = None


def _forget_troubles(draft: Draft) -> None:
    remembered = [key for key in draft.record.builds if draft.trouble(key) is not None]
    if draft.desired is None or not remembered:
        return
    images = named(draft, draft.desired)
    for key in remembered:
        # `remove/web` is of a VM, and any other of an image; that of the store is always asked for.
        kind, _, subject = key.partition("/")
        known = VMName(subject) in draft.standings if subject else key in images
        if not known and kind != "collect":
            draft.clear_trouble(key)
