"""A group that stops after a failure, and how it goes on; `progress` stops one that does not move."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from reconciler.model.desired import GroupSpec, VMSpec
from reconciler.model.names import Digest, GenerationNumber, GroupName, Revision, VMName
from reconciler.model.plan import Note
from reconciler.model.record import OF_CHECKS, Evidence, Generation, Hold, Record
from reconciler.planning.context import Draft, Standing
from reconciler.planning.health import has_other_checks, refused_checks


def hold_after_failure(
    draft: Draft, standing: Standing, generation: Generation, why: str, evidence: Evidence
) -> None:
    """What the group's policy says to a member that failed."""
    spec = standing.spec
    if spec is None or spec.digest != generation.digest:
        return  # already overtaken: nobody is about to take it
    key = generation.spec.rollout_key if evidence.kind in OF_CHECKS else Digest("")
    if key not in ("", spec.rollout_key):
        return  # overtaken, too: it is to be judged by other checks
    _hold_group(draft, standing, spec, generation.revision, why, key)


def hold_after_checks(draft: Draft, standing: Standing, revision: Revision, why: str) -> None:
    """The same to a member whose changed checks did not pass."""
    if standing.spec is not None:
        _hold_group(draft, standing, standing.spec, revision, why, standing.spec.rollout_key)


def _hold_group(
    draft: Draft, standing: Standing, spec: VMSpec, revision: Revision, why: str, key: Digest
) -> None:
    if draft.desired is None or not spec.group:
        return
    group = draft.desired.group(spec.group)
    if group.on_failure == "continue" and not _too_many(draft, group):
        return
    goes_back = group.on_failure == "rollbackGroup"
    hold = Hold(
        standing.name, spec.digest, why, draft.now.wall,
        held=tuple(_waiting(draft, group.name, standing.name)),
        back=tuple(_way_back(draft, group, standing.name, revision)) if goes_back else (),
        revision=revision,
        key=key,
        back_checks=tuple(_former_checks(draft, group, revision)) if goes_back else (),
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
    return sum(_failed(s) for s in members(draft, group.name)) > group.max_failures


def _failed(member: Standing) -> bool:
    spec, record = member.spec, member.record
    if spec is None:
        return False
    return record.block_of(spec) is not None or refused_checks(record, spec) is not None


def members(draft: Draft, group: GroupName) -> Iterable[Standing]:
    return (s for s in draft.standings.values() if s.spec is not None and s.spec.group == group)


def _waiting(draft: Draft, group: GroupName, failed: VMName) -> Iterable[tuple[VMName, Digest]]:
    """Members that were about to take the same change and have not: they stay where they are."""
    for other in members(draft, group):
        if other.name != failed and (change := still_to_take(other)) is not None:
            yield other.name, change


def still_to_take(member: Standing) -> Digest | None:
    """Its desired digest, or the rollout key where only the checks are others; None: it has all."""
    if member.spec is None:
        return None
    if not _has_taken(member):
        return member.spec.digest
    return member.spec.rollout_key if _has_other_checks(member) else None


def _has_taken(other: Standing) -> bool:
    """Whether a member runs its desired digest already, on trial or for good."""
    running = [guest.generation for guest in (other.guest, other.candidate) if guest is not None]
    known = [other.record.generation(number) for number in running]
    return other.spec is not None and any(
        g is not None and g.digest == other.spec.digest for g in known
    )


def _has_other_checks(other: Standing) -> bool:
    """Whether a member that has its desired digest is still judged by other checks than desired."""
    good, spec = other.record.last_good, other.spec
    if good is None or spec is None or good.digest != spec.digest:
        return False
    return has_other_checks(good, spec)


def _former_checks(draft: Draft, group: GroupSpec, failed: Revision) -> Iterable[VMName]:
    """Members whose checks were changed by the failed revision."""
    for other in members(draft, group.name):
        good = other.record.last_good
        if good is not None and good.checks is not None and good.checks.revision == failed:
            yield other.name


def _way_back(
    draft: Draft, group: GroupSpec, failed: VMName, revision: Revision
) -> Iterable[tuple[VMName, GenerationNumber]]:
    """Members whose newest good generation is of the failed revision, and the one before it."""
    for other in members(draft, group.name):
        good = other.record.last_good
        if other.name == failed or good is None or good.revision != revision:
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
    back = frozenset(name for hold in holds for name, _ in hold.back)
    return back.union(*(hold.back_checks for hold in holds))


def hold_of(draft: Draft, standing: Standing) -> Hold | None:
    """The hold of this VM's group, while the failed VM still wants what failed."""
    if standing.spec is None or not standing.spec.group or draft.desired is None:
        return None
    hold = draft.group_record(standing.spec.group).hold
    if hold is None:
        return None
    return hold if _stands(hold, draft.desired.vms.get(hold.vm)) else None


def _stands(hold: Hold, failed: VMSpec | None) -> bool:
    """Whether the failed VM still wants what failed: the digest, and where they failed the checks."""
    if failed is None or failed.digest != hold.digest:
        return False
    return hold.key in ("", failed.rollout_key)


def lift_holds(draft: Draft) -> None:
    """A hold ends when the failed VM wants something else or left."""
    if draft.desired is None:
        return
    for name, group in draft.record.groups.items():
        hold = draft.group_record(name).hold
        if hold is None or hold is not group.hold:
            continue
        failed = draft.desired.vms.get(hold.vm)
        if not _stands(hold, failed):
            checks = failed is not None and failed.digest == hold.digest
            why = f"{hold.vm} has {'other checks' if checks else 'a new digest'}"
            draft.groups[name] = replace(draft.group_record(name), hold=None)
            draft.actions.append(Note("lift-hold", name, why))
            draft.event("hold-lifted", f"group {name} goes on: {why}", group=name)
