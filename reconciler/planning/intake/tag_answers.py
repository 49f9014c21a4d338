"""Takes in what registries said of tags. A tag that means another image changes what is desired of VMs."""

from __future__ import annotations

from reconciler.model.image_tags import SHOWN_DIGEST, TagMeaning, by_key, digests_of, tags_in
from reconciler.model.observed import TagFound
from reconciler.model.trouble import LOOK_UP, TroubleKey
from reconciler.planning.context import PlanBuilder

NAMED = 5
"""VMs that an event names; the others are counted."""


def absorb(plan: PlanBuilder) -> None:
    """Record what tags mean. The next pass, which is at once, finds VMs desired with the new digests."""
    _recover(plan)
    for outcome in plan.observed.outcomes:
        if isinstance(outcome.result, TagFound):
            _take(plan, outcome.result)


def _recover(plan: PlanBuilder) -> None:
    """After the ledger was lost, tags mean what they do in the generations that proved good."""
    known = by_key(plan.store_record.tags)
    lost = {
        str(tag) for tag in plan.once("tags", lambda plan: tags_in(plan.desired))
    } - known.keys()
    proven = (g for vm in plan.vms.values() if lost and (g := vm.record.last_good) is not None)
    for generation in sorted(proven, key=lambda g: g.created_wall):
        for tag, digest in digests_of(generation.spec):
            if str(tag) in lost and digest:
                wall = generation.created_wall
                meaning = TagMeaning(str(tag), digest, wall, wall, generation.revision)
                plan.store = plan.store_record.with_meaning(meaning)


def _take(plan: PlanBuilder, found: TagFound) -> None:
    tag, wall = found.tag, plan.now.wall
    before = by_key(plan.store_record.tags).get(str(tag))
    moved = before is None or before.digest != found.digest
    failed = str(TroubleKey(LOOK_UP, str(tag))) in plan.record.builds
    meaning = TagMeaning(
        key=str(tag),
        digest=found.digest,
        since_wall=wall if before is None or moved else before.since_wall,
        looked_wall=wall,
        revision=found.revision,
        asked=before is not None and before.asked and not found.asked,
    )
    plan.store = plan.store_record.with_meaning(meaning)
    vms = plan.once("tags", lambda plan: tags_in(plan.desired)).get(tag, [])
    means = f"{tag.reference} means {found.digest[:SHOWN_DIGEST]}"
    if moved:
        names = ", ".join(vms[:NAMED])
        more = f" and {len(vms) - NAMED} more" if len(vms) > NAMED else ""
        was = f", and meant {before.digest[:SHOWN_DIGEST]}" if before is not None else ""
        plan.event("tag-looked-up", f"{means}{was}: {names}{more}")
        plan.moved.update(vms)
    elif failed:
        plan.event("tag-looked-up", f"{means}, as before: its registry answers again")
