"""A group that stops after a failure, and how it goes on; `progress` stops one that does not move."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from reconciler.model.desired import GroupSpec
from reconciler.model.names import Digest, GenerationNumber, GroupName, VMName
from reconciler.model.plan import Note
from reconciler.model.record import Generation, Hold, Record
from reconciler.planning.draft import Draft, Standing


def hold_after_failure(draft: Draft, standing: Standing, generation: Generation, why: str) -> None:
    """What the group's policy says to a member that failed."""
    spec = standing.spec
    if draft.desired is None or spec is None or not spec.group:
        return
    if spec.digest != generation.digest:
        return  # already overtaken: nobody is about to take it
    group = draft.desired.group(spec.group)
    if group.on_failure == "continue" and not _too_many(draft, group):
        return
    back = _way_back(draft, group, generation) if group.on_failure == "rollbackGroup" else ()
    hold = Hold(
        standing.name, generation.digest, why, draft.now.wall,
        tuple(_waiting(draft, group.name, standing.name)), tuple(back),
        revision=generation.revision,
    )  # fmt: skip
    put_hold(draft, group.name, hold)


def put_hold(draft: Draft, group: GroupName, hold: Hold) -> None:
    why = hold.words
    draft.groups[group] = replace(draft.group_record(group), hold=hold, progress=None)
    draft.actions.append(Note("hold", group, why))
    words = f"group {group} is held: {why}"
    draft.event("group-held", words, severity="error", group=group, revision=hold.revision)


def _too_many(draft: Draft, group: GroupSpec) -> bool:
    if group.max_failures is None:
        return False
    failed = sum(
        1 for s in members(draft, group.name) if s.spec and s.record.block_of(s.spec.digest)
    )
    return failed > group.max_failures


def members(draft: Draft, group: GroupName) -> Iterable[Standing]:
    return (s for s in draft.standings.values() if s.spec is not None and s.spec.group == group)


def _waiting(draft: Draft, group: GroupName, failed: VMName) -> Iterable[tuple[VMName, Digest]]:
    """Members that were about to take the same change and have not: they stay where they are."""
    for other in members(draft, group):
        if other.name != failed and other.spec is not None and not _has_taken(other):
            yield other.name, other.spec.digest


def _has_taken(other: Standing) -> bool:
    """Whether a member runs its desired digest already, on trial or for good."""
    running = [guest.generation for guest in (other.guest, other.candidate) if guest is not None]
    known = [other.record.generation(number) for number in running]
    return other.spec is not None and any(
        g is not None and g.digest == other.spec.digest for g in known
    )


def _way_back(
    draft: Draft, group: GroupSpec, failed: Generation
) -> Iterable[tuple[VMName, GenerationNumber]]:
    """Members whose newest good generation is of the failed revision, and the one before it."""
    for other in members(draft, group.name):
        good = other.record.last_good
        if other.name == failed.vm or good is None or good.revision != failed.revision:
            continue
        before = [
            g for g in other.record.generations
            if g.verdict == "committed" and g.number < good.number
        ]  # fmt: skip
        if before:
            yield other.name, before[-1].number


def sent_back(record: Record) -> frozenset[VMName]:
    """Members that some hold sends back to the generation before."""
    holds = [group.hold for group in record.groups.values() if group.hold is not None]
    return frozenset(name for hold in holds for name, _ in hold.back)


def hold_of(draft: Draft, standing: Standing) -> Hold | None:
    """The hold of this VM's group, while the failed VM still wants what failed."""
    if standing.spec is None or not standing.spec.group or draft.desired is None:
        return None
    hold = draft.group_record(standing.spec.group).hold
    if hold is None:
        return None
    failed = draft.desired.vms.get(hold.vm)
    return hold if failed is not None and failed.digest == hold.digest else None


def lift_holds(draft: Draft) -> None:
    """A hold ends when the failed VM wants another digest or left."""
    if draft.desired is None:
        return
    for name, group in draft.record.groups.items():
        hold = draft.group_record(name).hold
        if hold is None or hold is not group.hold:
            continue
        failed = draft.desired.vms.get(hold.vm)
        if failed is None or failed.digest != hold.digest:
            draft.groups[name] = replace(draft.group_record(name), hold=None)
            draft.actions.append(Note("lift-hold", name, f"{hold.vm} has a new digest"))
            draft.event(
                "hold-lifted", f"group {name} goes on: {hold.vm} has a new digest", group=name
            )
