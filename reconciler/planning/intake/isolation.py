"""Guests that checks could not reach: failed answers in that time are not the guest's fault."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.desired import VMSpec
from reconciler.model.health import ProbeCounts
from reconciler.model.names import VMName
from reconciler.model.observed import Guest, Links, Observed
from reconciler.model.policy import ERRORS_IN_A_ROW
from reconciler.model.record import Record
from reconciler.now import Now

SETTLING = 5.0
"""Seconds, beside two of its periods, after which a guest that is plugged in again must answer."""


def excused(observed: Observed, record: Record, now: Now) -> Observed:
    """The observation in which guests that are, or just were, unreachable count as not asked."""
    found: dict[VMName, tuple[Guest, ...]] = {}
    for vm in sorted({link.owner for link in observed.links.found.values() if link.owner}):
        known = record.vms.get(vm)
        for index, guest in enumerate(observed.guests.get(vm, ())):
            generation = known.generation(guest.generation) if known else None
            failures = guest.health.failures or guest.trial.failures
            if generation is None or not guest.alive or not failures:
                continue
            since = now.boot - observed.plugged.get(vm, float("-inf"))
            settling = since < SETTLING + 2 * generation.spec.health.period
            if settling or _is_loose(generation.spec, observed.links):
                guests = found.get(vm, observed.guests[vm])
                found[vm] = (*guests[:index], _unasked(guest), *guests[index + 1 :])
    return replace(observed, guests={**observed.guests, **found}) if found else observed


def _is_loose(spec: VMSpec, links: Links) -> bool:
    """Whether a tap of it exists without a bridge; a missing tap needs a new guest."""
    there = ((tap, links.found.get(tap.name)) for tap in spec.taps)
    return any(link and not (link.up and link.bridge == tap.bridge) for tap, link in there)


def _unasked(guest: Guest) -> Guest:
    return replace(guest, health=_doubtful(guest.health), trial=_doubtful(guest.trial))


def _doubtful(health: ProbeCounts) -> ProbeCounts:
    return replace(
        health, failures=0, failing_since=None, passing_since=None,
        errors=max(health.errors, ERRORS_IN_A_ROW),
        liveness=replace(health.liveness, failures=0, failing_since=None),
    )  # fmt: skip
