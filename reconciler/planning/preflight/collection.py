"""Which images may be collected, and when: never one that a generation or a desired VM names."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import replace

from reconciler.model.actions import STORE, Collect
from reconciler.model.image import StoredImage
from reconciler.model.observed import Observed
from reconciler.model.policy import Policy
from reconciler.model.trouble import COLLECTION
from reconciler.planning.context import PlanBuilder
from reconciler.planning.preflight import image_builds

MIB = 1024 * 1024
ROOMY = 2
"""Free space is kept at so many times `policy.disk_reserve_mib` before unnamed images are."""


def collect(plan: PlanBuilder) -> None:
    """Collect what may go, when nothing else is going on.

    A build that finds the disk full, and a person, have it done beside other builds.
    """
    if plan.desired is None:
        return
    observed, record = plan.observed, plan.record.store
    kept = plan.named = image_builds.pinned(plan, plan.desired)
    requested = record.collect_wall is not None
    go = removable(observed, kept, plan.policy, everything=requested or plan.disk_full)
    if not go:
        if requested:
            plan.store = replace(plan.store_record, collect_wall=None)
        return
    at_once = requested or plan.disk_full
    begun = any(action.scope == "image" for action in plan.actions)
    if STORE in observed.building if at_once else observed.building or begun:
        return
    if (pausing := plan.pausing(COLLECTION)) is not None:
        plan.wake_at(pausing.retry.boot)
        return
    stay = kept | (observed.stored.keys() - go)
    plan.actions.append(Collect(stay, f"{len(go)} images that nothing pins"))


def removable(
    observed: Observed, kept: AbstractSet[str], policy: Policy, *, everything: bool
) -> frozenset[str]:
    """Keys of unnamed images that go: all, or those unused for longest until the rest has room."""
    unnamed = [image for key, image in observed.stored.items() if key not in kept]
    if everything or not policy.store_max_mib:
        return frozenset(image.key for image in unnamed)
    excess = _excess(observed, policy)
    go = {image.key for image in unnamed if image.broken}
    for image in sorted(unnamed, key=_last_use):
        if excess <= 0:
            break
        go.add(image.key)
        excess -= image.size_bytes
    whole = (key for key, parts in observed.parts.items() if key not in kept and go & {*parts})
    return frozenset(go.union(whole))


def _excess(observed: Observed, policy: Policy) -> int:
    """Bytes by which the store is too large, for its own bound or for the free space of the disk."""
    total = sum(image.size_bytes for image in observed.stored.values())
    short_mib = ROOMY * policy.disk_reserve_mib - observed.host.disk_free_mib
    return max(total - policy.store_max_mib * MIB, short_mib * MIB)


def _last_use(image: StoredImage) -> tuple[float, bool, str]:
    """Composed layers go before their parts: those may belong to others too."""
    return max(image.used_wall, image.made_wall), image.kind != "composed", image.key
