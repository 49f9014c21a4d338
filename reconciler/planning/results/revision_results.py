"""What a revision changed, and its result.

A revision is judged by the VMs that it changed and by no others. Troubles from before are listed beside
its result, with the revision that caused each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace

from reconciler.errors import ALL_NAMES, RequestRefused, did_you_mean
from reconciler.model.desired import DesiredState, VMSpec
from reconciler.model.names import Revision, VMName
from reconciler.model.observed import Observed
from reconciler.model.plan import Plan
from reconciler.model.record import Record, SourceRecord
from reconciler.model.revision_result import (
    FINAL,
    Conclusion,
    RevisionRecord,
    RevisionResult,
    VMResult,
    owners,
)
from reconciler.model.waits import Wait
from reconciler.now import Now
from reconciler.planning.context import PlanBuilder
from reconciler.planning.results import vm_results
from reconciler.planning.results.vm_results import HELD, Fleet

MOST_REVISIONS = 50
"""Revisions that are remembered with their results; the oldest are forgotten first."""
MOST_NAMED = 8
"""VMs of a result that are named; the rest is counted."""
DONE: tuple[Conclusion, ...] = ("converged", "unchanged", "superseded")
"""Results that nothing changes any more; one that failed may come right after a `retry`."""
WORST: tuple[Conclusion, ...] = ("rollback-failed", "failed", "rolled-back", "working", "waiting")


def opened(
    former: DesiredState | None, state: DesiredState, record: Record, wall: float
) -> tuple[RevisionRecord, ...]:
    """The recorded revisions with a new one, which takes over the VMs that it changes."""
    changed, removed = changes(former, state, record)
    taken = frozenset((*changed, *removed))
    renamed = {spec.moved_from for spec in state.vms.values() if spec.moved_from}
    kept = [
        _without(one, taken | renamed, wall)
        for one in record.source.revisions
        if one.revision != state.revision
    ]
    new = RevisionRecord(state.revision, wall, changed, removed, len(taken))
    if not taken:
        new = replace(new, result="unchanged", why="it changes no VM", ended_wall=wall)
    return (*kept, new)[-MOST_REVISIONS:]


def changes(
    former: DesiredState | None, state: DesiredState, record: Record
) -> tuple[tuple[VMName, ...], tuple[VMName, ...]]:
    """VMs of which a state changes something that is judged, and those it removes.

    If the state before is unknown, what was proven on this host is used in its place.
    """
    changed = tuple(
        sorted(n for n, s in state.vms.items() if _differs(_before(former, record, n), s))
    )
    known: Iterable[VMName] = former.vms if former is not None else record.vms
    moved = {spec.moved_from for spec in state.vms.values() if spec.moved_from}
    return changed, tuple(sorted(n for n in known if n not in state.vms and n not in moved))


def _before(former: DesiredState | None, record: Record, name: VMName) -> VMSpec | None:
    if former is not None:
        return former.vms.get(name)
    vm = record.vms.get(name)
    good = vm.last_good if vm else None
    return good.spec if good else None


def _differs(old: VMSpec | None, new: VMSpec) -> bool:
    if old is None or old.moved_from != new.moved_from:
        return True  # by another former name it may start, or wait, or be the VM that another was
    return old.digest != new.digest or old.health != new.health


def _without(one: RevisionRecord, taken: frozenset[VMName], wall: float) -> RevisionRecord:
    """The record without VMs that a newer revision changed; if none is left to judge, it is done.

    One that failed is done too once its failed VM is changed.
    """
    if one.result in DONE or (one.result in FINAL and taken.intersection(one.blamed)):
        return replace(one, vms=(), removed=()) if one.vms or one.removed else one
    vms = tuple(n for n in one.vms if n not in taken)
    removed = tuple(n for n in one.removed if n not in taken)
    if vms == one.vms and removed == one.removed:
        return one
    left = replace(one, vms=vms, removed=removed)
    if vms or removed or one.result in FINAL:
        return left
    return replace(
        left, result="superseded", why="newer revisions changed all of its VMs", ended_wall=wall
    )


def _with(one: RevisionRecord, taken: frozenset[VMName]) -> RevisionRecord:
    added = taken - {*one.vms}
    vms = tuple(sorted({*one.vms, *taken}))
    return replace(
        one, vms=vms, changed=one.changed + len(added), result="working", why="", blamed=(),
        ended_wall=None,
    )  # fmt: skip


def fleet_of(
    desired: DesiredState, observed: Observed, record: Record, plan: Plan, now: Now
) -> Fleet:
    """The inputs from which results are judged, after a pass."""
    waits = by_subject(plan.waits)
    return Fleet(desired, record.vms, record.groups, observed.guests, observed.busy, waits, now)


def by_subject(waits: Iterable[Wait]) -> dict[str, list[Wait]]:
    """Waits by subject."""
    found: dict[str, list[Wait]] = defaultdict(list)
    for wait in waits:
        found[wait.subject].append(wait)
    return found


def entry_of(
    source: SourceRecord, desired: DesiredState, asked: Revision | None = None
) -> RevisionRecord:
    """The record of a revision, by default the desired one.

    Of a revision from before results were stored all VMs count as changed.
    """
    name = asked or desired.revision
    for one in reversed(source.revisions):
        if one.revision == name:
            return one
    names = tuple(sorted(desired.vms))
    return RevisionRecord(name, source.first_seen_wall, names, (), len(names))


def judge_revision(fleet: Fleet, entry: RevisionRecord) -> RevisionResult:
    """The present result of a revision, by the VMs that it changed."""
    found = [vm_results.vm_result(fleet, name) for name in entry.vms if name in fleet.desired.vms]
    found += [vm_results.removal_result(fleet, name) for name in entry.removed]
    if not found:
        final: Conclusion = "superseded" if entry.changed else "unchanged"
        result = entry.result if entry.result in FINAL else final
        return RevisionResult(entry.revision, result, entry.why or _EMPTY[final], ended=True)
    return _summed(entry.revision, found, entry.revision)


_EMPTY: dict[Conclusion, str] = {
    "unchanged": "it changes no VM",
    "superseded": "newer revisions changed all of its VMs",
}


def judge_subject(fleet: Fleet, subject: str, source: SourceRecord) -> RevisionResult:
    """The result for a VM or the members of a group, whichever revision changed them.

    Raises RequestRefused for a name that is neither.
    """
    kind, _, name = subject.rpartition("/")
    names = [
        n for n, spec in fleet.desired.vms.items()
        if (n == name and kind != "group") or (spec.group == name and kind != "vm")
    ]  # fmt: skip
    if not names:
        groups = {spec.group for spec in fleet.desired.vms.values() if spec.group}
        raise RequestRefused(
            f"no VM and no group {name!r} is declared",
            kind="unknown",
            hint=did_you_mean(name, {*fleet.desired.vms, *groups}, ALL_NAMES, 3),
        )
    changed_by = owners(source.revisions)
    found = [
        replace(one, revision=one.revision or changed_by.get(one.vm))
        for one in (vm_results.vm_result(fleet, name) for name in sorted(names))
    ]
    return _summed(fleet.desired.revision, found, fleet.desired.revision)


def _summed(revision: Revision, found: list[VMResult], judged: Revision) -> RevisionResult:
    unsound = sorted(
        (one for one in found if one.result != "converged"), key=lambda one: WORST.index(one.result)
    )
    worst: Conclusion = unsound[0].result if unsound else "converged"
    first = [one for one in unsound if one.result == worst]
    ill = sum(one.result in FINAL or one.result == worst for one in unsound)
    first = first or [one for one in found if one.why]  # a VM that is kept, by the host's policy
    return RevisionResult(
        revision=revision,
        result=worst,
        why=_words(first, judged, ill or len(first)),
        vms=tuple(unsound[:MOST_NAMED]),
        changed=len(found),
        healthy=len(found) - len(unsound),
        ended=all(one.result != "working" for one in unsound),
    )


def _words(first: list[VMResult], judged: Revision, ill: int) -> str:
    """The cause: the first of the worst VMs that fared so by itself, with a count of the others."""
    if not first:
        return ""
    own = [one for one in first if not one.why.startswith(HELD)] or first
    one = own[0]
    of = f" (revision {one.revision[:8]})" if one.revision not in (None, judged) else ""
    more = f"; and {ill - 1} more" if ill > 1 else ""
    return f"{one.vm}: {one.why}{of}{more}"


def beside(fleet: Fleet, entry: RevisionRecord, source: SourceRecord) -> tuple[str, ...]:
    """Troubles of VMs that this revision did not change, each with the revision that caused it."""
    own = frozenset((*entry.vms, *entry.removed))
    found = list(_troubles(fleet, own, owners(source.revisions)))
    if len(found) > MOST_NAMED:
        found = [*found[:MOST_NAMED], f"and {len(found) - MOST_NAMED} more"]
    return tuple(found)


def _troubles(
    fleet: Fleet, own: frozenset[VMName], changed_by: dict[VMName, Revision]
) -> Iterator[str]:
    for name in sorted(fleet.desired.vms):
        if name in own or fleet.serves(name):
            continue
        one = vm_results.vm_result(fleet, name)
        if one.result == "converged":
            continue
        revision = one.revision or vm_results.caused_by(fleet.vms.get(name), changed_by.get(name))
        of = f" (revision {revision[:8]})" if revision is not None else ""
        yield f"{name}: {one.why}{of}"
    for name in sorted(fleet.vms.keys() - fleet.desired.vms.keys() - own):
        for wait in fleet.waits.get(name, ()):
            if wait.kind in ("suspended", "kept", "prune", "moved-from", "conflict"):
                yield f"{name}: {wait.why}"


def judge_again(plan: PlanBuilder) -> None:
    """Have the desired revision answer for VMs whose tags mean another image; how is known in the next pass."""
    desired, source = plan.desired, plan.source or plan.record.source
    if desired is not None:
        revisions = tuple(
            _with(one, frozenset(plan.moved))
            if one.revision == desired.revision
            else _without(one, frozenset(plan.moved), plan.now.wall)
            for one in source.revisions
        )
        plan.source = replace(source, revisions=revisions)


def record_results(plan: PlanBuilder) -> None:
    """Record the results of revisions that ended, and report them."""
    desired, source = plan.desired, plan.source or plan.record.source
    if desired is None or all(one.result in DONE for one in source.revisions):
        return
    fleet = _fleet_of_plan(plan, desired)
    revisions = tuple(_ended(plan, fleet, one) for one in source.revisions)
    if any(a is not b for a, b in zip(revisions, source.revisions, strict=True)):
        plan.source = replace(source, revisions=revisions)


def _fleet_of_plan(plan: PlanBuilder, desired: DesiredState) -> Fleet:
    vms = {name: vm.record for name, vm in plan.vms.items()}
    changed = {name: group for name, group in plan.groups.items() if group is not None}
    groups = {**plan.record.groups, **changed}
    observed = plan.observed
    return Fleet(
        desired, vms, groups, observed.guests, observed.busy, by_subject(plan.waits), plan.now
    )


def _ended(plan: PlanBuilder, fleet: Fleet, one: RevisionRecord) -> RevisionRecord:
    """The record with its final result, if that changed; else None."""
    if one.result in DONE or not (one.vms or one.removed):
        return one
    found = judge_revision(fleet, one)
    if not found.ended or found.result not in FINAL:
        return one
    blamed = tuple(vm.vm for vm in found.vms if vm.result in FINAL)
    ended = replace(
        one, result=found.result, why=found.why, blamed=blamed, ended_wall=plan.now.wall
    )
    if (ended.result, ended.why, ended.blamed) == (one.result, one.why, one.blamed):
        return one
    _report(plan, ended, found)
    return ended


def _report(plan: PlanBuilder, one: RevisionRecord, found: RevisionResult) -> None:
    """Report the end of a revision. `revision-applied` means that every VM is as declared; this one only its own."""
    source = plan.source or plan.record.source
    if found.result == "converged" and source.applied == one.revision:
        return
    words = f"revision {one.revision[:8]}: {found.result.replace('-', ' ')}: {found.why}"
    if found.result == "converged":
        words = f"revision {one.revision[:8]}: what it changed is healthy: {found.changed} of {one.changed}"
    plan.event("revision-ended", words, revision=one.revision)
