"""Taps of guests that live or lived: which go back into their bridges, and which are left over."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from reconciler.model.machine import Tap
from reconciler.model.names import VMName
from reconciler.model.observed import Link
from reconciler.model.plan import DropTaps, PlugTaps
from reconciler.planning.context import Draft, Standing
from reconciler.planning.preflight.bridges import in_use, lacking
from reconciler.planning.rollout.suspension import scopes
from reconciler.planning.steps.actions import in_trouble

LOOK_AGAIN = 5.0
"""Seconds until taps of living guests are looked at again: nobody tells of a bridge's restart."""


def see_to(draft: Draft) -> None:
    """Mend what came loose, and remove what leads nowhere; guests are not touched."""
    if not draft.observed.links.found:
        return  # nobody could look
    for standing in draft.standings.values():
        _mend(draft, standing)
    if draft.suspended is None:
        _collect(draft)


def _mend(draft: Draft, standing: Standing) -> None:
    guest, record = standing.guest, standing.record
    generation = record.generation(guest.generation) if guest else None
    if generation is None or not generation.spec.taps:
        return
    draft.wake_at(draft.now.boot + LOOK_AGAIN)
    if standing.busy or standing.stopping or any(scopes(draft, standing)):
        return
    if any(outcome.subject == standing.name for outcome in draft.observed.outcomes):
        return  # what was just done may have been done after the look
    loose = tuple(_loose(draft, standing, generation.spec.taps))
    if not loose or standing.acted or in_trouble(draft, standing, "plug-taps"):
        return
    why = ", ".join(f"tap {tap.name} had left bridge {tap.bridge}" for tap in loose)
    draft.do(standing, PlugTaps(standing.name, loose, why))
    draft.event(
        "tap-plugged", f"{standing.name}: {why}: it is plugged in again", standing, "warning"
    )


def _loose(draft: Draft, standing: Standing, taps: tuple[Tap, ...]) -> Iterator[Tap]:
    for tap in taps:
        there = draft.observed.links.found.get(tap.name)
        if there == Link("tap", standing.name, tap.bridge):
            continue
        if there is None:
            why = f"tap {tap.name} of its guest is gone: `reconciler restart {standing.name}` makes it anew"
        elif there.owner != standing.name:
            why = f"interface {tap.name} is another's now: it is left as it is"
        elif what := lacking(draft, tap):
            why = f"tap {tap.name} of its guest has no bridge: {what}"
        else:
            yield tap
            continue
        draft.wait("network", standing.name, why)


def _collect(draft: Draft) -> None:
    """Taps of ours of whom no guest lives."""
    ours = {name: one.owner for name, one in draft.observed.links.found.items() if one.owner}
    claimed = _claimed(draft) if ours else set()
    left: defaultdict[VMName, list[str]] = defaultdict(list)
    for name, owner in sorted(ours.items()):
        if name not in claimed and not _untouchable(draft, owner):
            left[owner].append(name)
    for vm, names in left.items():
        if (trouble := draft.pausing(f"drop-taps/{vm}")) is not None:
            draft.wake_at(trouble.retry.boot)
            continue
        action = DropTaps(vm, tuple(names), f"{', '.join(names)}: no guest of {vm} has it")
        if (standing := draft.standings.get(vm)) is not None:
            draft.do(standing, action)
        else:
            draft.actions.append(action)


def _claimed(draft: Draft) -> set[str]:
    """What living guests have, and what a start of this moment may make.

    Of all VMs: the name of one may change, and its generations keep the taps that they had.
    """
    claimed: set[str] = set()
    for standing in draft.standings.values():
        if standing.busy or standing.acted:
            claimed |= {t.name for g in standing.record.generations for t in g.spec.taps}
        else:
            claimed |= in_use(draft, standing.name) or set()
    return claimed


def _untouchable(draft: Draft, vm: VMName) -> bool:
    """Nothing is to be done to it now, or nobody knows what its guests have."""
    standing = draft.standings.get(vm)
    if standing is not None and (standing.acted or any(scopes(draft, standing))):
        return True
    return vm in draft.observed.busy or in_use(draft, vm) is None
