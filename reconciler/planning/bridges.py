"""Whether the taps of a guest can be made: the bridge, and who has their names."""

from __future__ import annotations

from reconciler.model.desired import VMSpec
from reconciler.model.machine import Tap
from reconciler.model.names import VMName
from reconciler.planning.draft import Draft, Standing


def obstacle(draft: Draft, standing: Standing, spec: VMSpec) -> str | None:
    """Why the taps of this spec cannot be made now."""
    if spec.taps and draft.observed.links.hindrance:
        return draft.observed.links.hindrance
    return next((why for tap in spec.taps if (why := _hindrance(draft, standing, tap))), None)


def _hindrance(draft: Draft, standing: Standing, tap: Tap) -> str:
    there = draft.observed.links.found.get(tap.name)
    if why := lacking(draft, tap):
        return why
    if there is None or there.owner == standing.name:
        return ""
    if there.owner is None:
        return (
            f"interface {tap.name} is there, and not ours: it is left as it is; remove it, or give"
            f" interfaces[{tap.interface}] an id"
        )
    used = in_use(draft, there.owner)
    kept = used is None or tap.name in used or there.owner in draft.observed.busy
    return f"tap {tap.name} is {there.owner}'s still" if kept else ""


def lacking(draft: Draft, tap: Tap) -> str:
    """What is wrong with the tap's bridge."""
    bridge = draft.observed.links.found.get(tap.bridge)
    if tap.bridge not in draft.policy.bridges:
        return f"bridge {tap.bridge} is not among policy.bridges of the config any more"
    if bridge is None:
        return f"the host has no bridge {tap.bridge}: ip link add {tap.bridge} type bridge"
    if bridge.kind != "bridge":
        return f"interface {tap.bridge} of the host is no bridge"
    return ""


def in_use(draft: Draft, vm: VMName) -> set[str] | None:
    """Names of the taps that living guests of a VM have; None: nobody knows."""
    record = draft.standings[vm].record if vm in draft.standings else None
    used: set[str] = set()
    for guest in draft.observed.guests.get(vm, ()):
        if not guest.alive:
            continue
        generation = record.generation(guest.generation) if record else None
        if generation is None:
            return None
        used |= {tap.name for tap in generation.spec.taps}
    return used
