"""A group that stops: after a failure, without progress, or at a person's word; and how it goes on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from reconciler.model.desired import GroupSpec
from reconciler.model.names import Digest, GenerationNumber, GroupName, VMName
from reconciler.model.plan import Note
from reconciler.model.record import Generation, Hold, Record
from reconciler.planning.draft import Draft, Standing

NOT_TICKING = frozenset(
    ("suspended", "hold", "blocked", "broken", "window", "approval", "pinned", "soak", "breaker")
)
"""Waits during which the progress deadline stands still: nobody is expected to move."""


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
    )  # fmt: skip
    put_hold(draft, group.name, hold, f"{standing.name} failed: {why}")


def put_hold(draft: Draft, group: GroupName, hold: Hold, why: str) -> None:
    draft.groups[group] = replace(draft.group_record(group), hold=hold, progress=None)
    draft.actions.append(Note("hold", group, why))
    draft.event("group-held", f"group {group} is held: {why}", severity="error", group=group)


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


def watch_progress(draft: Draft) -> None:
    """Groups with a progress deadline: set it, move it on with each success, hold when it passes."""
    if draft.desired is None:
        return
    for name, spec in draft.desired.groups.items():
        if spec.progress_deadline is None:
            continue
        record = draft.group_record(name)
        if record.hold is not None or not _moving(draft, name):
            if record.progress is not None:
                draft.groups[name] = replace(record, progress=None)
        elif record.progress is None or _succeeded(draft, name):
            progress = draft.deadline(spec.progress_deadline)
            draft.groups[name] = replace(record, progress=progress)
            draft.wake_at(progress.boot)
        elif record.progress.passed(draft.now):
            _stuck(draft, name, spec.progress_deadline)
        else:
            draft.wake_at(record.progress.boot)


def _moving(draft: Draft, group: GroupName) -> bool:
    """Whether a member is on its way and nothing but work of ours is in the way."""
    behind = {s.name for s in members(draft, group) if not s.synced}
    still = {w.subject for w in draft.waits if w.kind in NOT_TICKING}
    return bool(behind - still)


def _succeeded(draft: Draft, group: GroupName) -> bool:
    names = {s.name for s in members(draft, group)}
    return any(
        isinstance(a, Note) and a.kind == "commit" and a.subject in names for a in draft.actions
    )


def _stuck(draft: Draft, group: GroupName, seconds: float) -> None:
    behind = [s for s in members(draft, group) if not s.synced and s.spec is not None]
    first = behind[0]
    if first.spec is None:
        return
    why = f"no member became healthy within progressDeadline {seconds:g}s"
    held = tuple((s.name, s.spec.digest) for s in behind if s.spec is not None)
    put_hold(draft, group, Hold(first.name, first.spec.digest, why, draft.now.wall, held), why)
