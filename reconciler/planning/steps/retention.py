"""What is remembered of groups, images and VMs that nobody names any more: a host lives for years."""

from __future__ import annotations

from reconciler.model.names import VMName
from reconciler.planning.context import PlanBuilder
from reconciler.planning.preflight import image_builds


def forget(plan: PlanBuilder) -> None:
    """Drop records of groups that are gone, and troubles of what nobody asks for.

    What a person suspended stays so, whoever is in it.
    """
    if plan.desired is None:
        return
    _forget_groups(plan)
    _forget_troubles(plan)


def _forget_groups(plan: PlanBuilder) -> None:
    desired = plan.desired
    remembered = plan.record.groups
    if desired is None or not remembered:
        return
    members = {vm.group for vm in plan.vms.values()}
    for name in sorted(remembered.keys() - members - desired.groups.keys()):
        if plan.group_record(name).suspended is None:
            plan.groups[name] = None


def _forget_troubles(plan: PlanBuilder) -> None:
    remembered = [key for key in plan.record.builds if plan.trouble(key) is not None]
    if plan.desired is None or not remembered:
        return
    images = image_builds.named(plan, plan.desired)
    for key in remembered:
        # `remove/web` is of a VM, and any other of an image; that of the store is always asked for.
        kind, _, subject = key.partition("/")
        known = VMName(subject) in plan.vms if subject else key in images
        if not known and kind != "collect":
            plan.clear_trouble(key)
