"""Which tags of images are looked up now, and which VMs wait for that.

A registry that is away disturbs nothing: what a tag meant is in the record, and goes on to be meant. Only
a VM that is to change waits: for the first lookup ever, or for the first answer to a new revision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from reconciler.image_references import registry_of
from reconciler.model.actions import LookUp
from reconciler.model.desired import VMSpec
from reconciler.model.image_tags import Tag, TagMeaning, by_key, digests_of, tags_in, tags_of
from reconciler.model.names import VMName
from reconciler.model.trouble import LOOK_UP, TroubleKey
from reconciler.model.waits import WaitKind
from reconciler.planning.context import PlanBuilder

DAY = 86_400.0
"""Seconds after which `daily` looks again; as long after a clock was set back."""
AT_ONCE = 4
NAMED = 3
"""VMs named in a reason before the rest is only counted."""


@dataclass(frozen=True, slots=True)
class Awaited:
    """Why a VM does not change yet."""

    kind: WaitKind
    why: str


def _named(plan: PlanBuilder) -> Mapping[Tag, list[VMName]]:
    return plan.once("tags", lambda plan: tags_in(plan.desired))


def awaited(plan: PlanBuilder, spec: VMSpec) -> Awaited | None:
    """What the tags of this spec have to be looked up for before a VM takes it; None: nothing."""
    known = plan.once("meanings", lambda plan: by_key(plan.store_record.tags))
    for tag, digest in digests_of(spec):
        meaning, failed = known.get(str(tag)), plan.trouble(TroubleKey(LOOK_UP, str(tag)))
        if meaning is None and failed is not None:
            why = f"{tag.reference} was never looked up with success: {failed.error}"
            return Awaited("lookup", f"{why}; tried again with growing pauses")
        if meaning is None:
            return Awaited("image", f"it is looked up what {tag.reference} means")
        if failed is None and _other_revision(plan, tag, meaning) and not _away(plan, tag):
            return Awaited("image", f"it is looked up whether {tag.reference} means another image")
        if meaning.digest != digest:
            return Awaited("image", f"{tag.reference} means another image from now on")
    return None


def _other_revision(plan: PlanBuilder, tag: Tag, meaning: TagMeaning) -> bool:
    desired = plan.desired
    return tag.resolve != "manual" and desired is not None and meaning.revision != desired.revision


def _away(plan: PlanBuilder, tag: Tag) -> bool:
    """Whether a lookup of another tag of its registry failed lately: what is recorded is used meanwhile."""
    return registry_of(tag.repository) in plan.once("registries away", _registries_away)


def _registries_away(plan: PlanBuilder) -> frozenset[str]:
    keys = (TroubleKey(LOOK_UP, str(tag)) for tag in _named(plan))
    return frozenset(registry_of(key.subject) for key in keys if plan.trouble(key) is not None)


def look_up(plan: PlanBuilder) -> None:
    """Begin the lookups that are due, and forget what tags meant that nothing names any more."""
    desired = plan.desired
    if desired is None:
        return
    known = by_key(plan.store_record.tags)
    room = AT_ONCE - len(plan.observed.looking)
    for tag, vms in sorted(_named(plan).items(), key=lambda item: str(item[0])):
        why = _due(plan, tag, known.get(str(tag)))
        if not why or str(tag) in plan.observed.looking:
            continue
        if (pausing := plan.pausing(TroubleKey(LOOK_UP, str(tag)))) is not None:
            plan.wake_at(pausing.retry.boot)
        elif room > 0:
            room -= 1
            meaning = known.get(str(tag))
            asked = meaning is not None and meaning.asked
            more = f" and {len(vms) - NAMED} more" if len(vms) > NAMED else ""
            why = f"{why}; wanted by {', '.join(vms[:NAMED])}{more}"
            plan.actions.append(LookUp(tag, desired.revision, asked, why))
    _forget(plan)


def _due(plan: PlanBuilder, tag: Tag, meaning: TagMeaning | None) -> str:
    """Why it is to be looked up now; empty: it is not."""
    if meaning is None:
        return "it was never looked up"
    if meaning.asked:
        return "a person asked for it"
    if _other_revision(plan, tag, meaning):
        return "the revision is another"
    if tag.resolve != "daily":
        return ""
    passed = abs(plan.now.wall - meaning.looked_wall)
    if passed >= DAY:
        return "a day passed"
    plan.wake_at(plan.now.boot + DAY - passed)
    return ""


def _forget(plan: PlanBuilder) -> None:
    """Forget what tags meant that neither the desired state nor a kept generation names."""
    store, keys = plan.store_record, {str(tag) for tag in _named(plan)}
    if all(one.key in keys for one in store.tags):
        return
    generations = (g for vm in plan.vms.values() for g in vm.record.generations)
    keys.update(str(tag) for generation in generations for tag in tags_of(generation.spec))
    kept = tuple(one for one in store.tags if one.key in keys)
    if len(kept) != len(store.tags):
        plan.store = replace(store, tags=kept)
