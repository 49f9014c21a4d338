"""VMs that left the repository: kept, refused, or removed step by step until they are gone."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.desired import DesiredState
from reconciler.model.plan import Note, RemoveVM, WaitKind
from reconciler.model.record import Record
from reconciler.planning.context import Draft, Standing
from reconciler.planning.rollout.suspension import scopes, suspended
from reconciler.planning.steps.actions import in_trouble, stop

MOST_NAMED = 3


def refuse(state: DesiredState, record: Record) -> str | None:
    """Why a valid state is refused whole; None when it may be the desired state (law 7)."""
    if state.vms or not record.vms:
        return None
    return (
        f"it has no VM at all, and this host runs {len(record.vms)}: an emptied repository stops"
        " nothing (remove VMs one by one, with prune on)"
    )


def mark_removals(draft: Draft) -> None:
    """Accept or refuse the removals that the desired state asks for."""
    if draft.desired is None:
        return
    absent = [s for s in draft.standings.values() if s.spec is None]
    for standing in draft.standings.values():
        if standing.spec is not None and standing.record.removing:
            standing.record = replace(standing.record, removing=False)
    named = {spec.moved_from: spec.name for spec in draft.desired.vms.values() if spec.moved_from}
    for standing in absent:
        if (heir := named.get(standing.name)) is not None and standing.record.moving is None:
            draft.wait(
                "prune", standing.name,
                f"kept: {heir} names it as movedFrom, and has generations of its own: remove that"
                " field, or rename this VM's folder away yourself",
            )  # fmt: skip
    absent = [s for s in absent if s.record.moving is None and s.name not in named]
    fresh = [s for s in absent if not s.record.removing and not any(scopes(draft, s))]
    if not fresh:
        return
    if (why := _why_kept(draft, draft.desired, len(fresh))) is not None:
        for standing in fresh:
            draft.wait(why[0], standing.name, f"not in the repository; kept, since {why[1]}")
    else:
        for standing in fresh:
            standing.record = replace(
                standing.record, removing=True, pin=None, rollback=None, quarantine=None
            )
            draft.actions.append(Note("remove", standing.name, "left the repository"))
            draft.event("vm-removing", f"{standing.name} left the repository", standing)


def _why_kept(draft: Draft, desired: DesiredState, removals: int) -> tuple[WaitKind, str] | None:
    """Why VMs that left the repository are not removed; None when they are."""
    policy = draft.policy
    if draft.unfounded:
        heirs = ", ".join(sorted(draft.unfounded)[:MOST_NAMED])
        return "moved-from", (
            f"metadata.movedFrom of {heirs} names a VM that is not known here, and may mean this one"
        )
    if not policy.prune:
        return "kept", "source.prune is off"
    if removals > policy.max_delete and not _confirmed(draft):
        return "prune", (
            f"removing {removals} VMs at once exceeds max_delete {policy.max_delete}: `reconciler"
            f" confirm {desired.revision[:8]}` allows it"
        )
    return None


def _confirmed(draft: Draft) -> bool:
    """A person allowed this revision's removals, however many."""
    return draft.desired is not None and draft.record.source.confirmed == draft.desired.revision


def remove(draft: Draft, standing: Standing) -> None:
    """The next step of a removal: stop, then clear away; the volumes stay."""
    if standing.busy or standing.acted:
        return
    if _removed(draft, standing):
        draft.dropped.append(standing.name)
        standing.acted = True
        draft.event("vm-removed", f"{standing.name} is gone; its volumes are kept", standing)
        return
    guest = standing.leaving or standing.candidate or standing.guest or standing.unknown
    begun = standing.record.stop is not None and standing.record.stop.cause == "removed"
    if not begun and suspended(draft, standing):
        return
    if guest is not None:
        stop(draft, standing, "removed", "left the repository", guest)
    elif not in_trouble(draft, standing, "remove"):
        draft.do(standing, RemoveVM(standing.name, "its guest is gone"))


def _removed(draft: Draft, standing: Standing) -> bool:
    return any(
        outcome.kind == "remove" and outcome.subject == standing.name and outcome.error is None
        for outcome in draft.observed.outcomes
    )
