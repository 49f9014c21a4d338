"""Guests that run without a place in the record: after losing it, adopt and do not act."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.observed import Guest
from reconciler.model.plan import Note
from reconciler.model.record import Candidate, Start, StartPurpose, Suspension, VMRecord
from reconciler.planning.context import Draft, Standing
from reconciler.planning.steps.actions import behind_front
from reconciler.planning.steps.routing import routes_of

TWO_GUESTS = "adopted after the ledger was lost, with two guests"
NOT_DESIRED = "adopted after the ledger was lost, and not what is desired"


def adopt(draft: Draft, standing: Standing) -> None:
    """Take a living guest with its generation, as it was found on disk, into the record.

    Its generation counts as committed, since nothing better is known and it runs. Where it is not
    what the desired state wants, the VM is suspended: going on is a person's choice. That state
    may come to be known only later, since the lost ledger held its revision.
    """
    record = standing.record
    guest = standing.guest
    if record.generations or record.start is not None:
        _recognise(draft, standing)
        if guest is not None and not standing.busy:
            _follow(draft, standing, guest)
        return
    if guest is None:
        return
    led = next((g for g in (standing.unknown,) if g is not None and routes_of(draft, g)), None)
    guest = led or guest
    found = draft.observed.found.get(guest.instance)
    if found is None:
        draft.wait(
            "conflict",
            standing.name,
            f"process {guest.process.pid} runs as its guest, and nothing is known of it",
        )
        standing.acted = True
        return
    committed = replace(found, verdict="committed", verdict_wall=draft.now.wall, reason="adopted")
    deadline = draft.deadline(found.spec.health.startup_deadline)
    record = standing.record.with_generation(committed)
    record = _started(
        draft, record, Start(guest.instance, found.number, "restart", deadline), guest
    )
    if standing.spec is None or standing.spec.digest != found.digest:
        record = replace(
            record,
            suspended=Suspension(draft.now.wall, NOT_DESIRED),
        )
    standing.record = record
    draft.seat(standing)
    draft.actions.append(Note("adopt", standing.name, f"generation {found.number} runs"))
    draft.event(
        "guest-adopted", f"{standing.name}: generation {found.number} adopted", standing, "warning"
    )
    _adopt_candidate(draft, standing)


def _started(draft: Draft, record: VMRecord, start: Start, guest: Guest) -> VMRecord:
    """The record with this start. Behind the front, its ports are those that the front knows, or are asked."""
    generation, routes = record.generation(start.generation), routes_of(draft, guest)
    asked = routes is None and generation is not None and behind_front(generation.spec)
    taking = start.instance if asked else record.taking
    return replace(record, start=replace(start, routes=routes), taking=taking)


def _adopt_candidate(draft: Draft, standing: Standing) -> None:
    """A second guest is on trial again, as far as anybody knows; which one serves, a person should see."""
    guest = standing.unknown
    found = draft.observed.found.get(guest.instance) if guest is not None else None
    if guest is None or found is None:
        return
    deadline = draft.deadline(found.spec.health.startup_deadline)
    record, known = standing.record, standing.record.generation(found.number)
    if known is None or known.verdict != "committed":  # else a second guest of what serves
        record = record.with_generation(replace(found, verdict="trial", evidence=None))
    suspended = standing.record.suspended or Suspension(draft.now.wall, TWO_GUESTS)
    candidate = Candidate(guest.instance, found.number, deadline)
    standing.record = replace(record, candidate=candidate, suspended=suspended)
    draft.seat(standing)
    draft.actions.append(Note("adopt", standing.name, f"generation {found.number} runs beside it"))


def _recognise(draft: Draft, standing: Standing) -> None:
    """An adopted guest turns out to be what is desired: that needs no person."""
    record, spec, good = standing.record, standing.spec, standing.record.last_good
    if record.suspended is None or record.suspended.reason != NOT_DESIRED:
        return
    if spec is not None and good is not None and good.digest == spec.digest:
        standing.record = replace(record, suspended=None)
        why = "what was adopted is what is desired"
        draft.actions.append(Note("resumed", standing.name, why))
        draft.event("resumed", f"{standing.name} goes on: {why}", standing)


def _follow(draft: Draft, standing: Standing, guest: Guest) -> None:
    """The record knows the VM, but of another start: as after putting an older ledger back."""
    record = standing.record
    if record.start is not None and record.start.instance == guest.instance:
        return
    if record.stop is not None and record.stop.instance == guest.instance:
        return
    generation = record.generation(guest.generation)
    if generation is None:
        why = f"process {guest.process.pid} runs generation {guest.generation}, which nothing remembers"
        draft.wait("conflict", standing.name, why)
        standing.acted = True
        return
    purpose: StartPurpose = "trial" if generation.verdict == "trial" else "restart"
    deadline = draft.deadline(generation.spec.health.startup_deadline)
    start = Start(guest.instance, generation.number, purpose, deadline)
    standing.record = _started(draft, record, start, guest)
    draft.actions.append(Note("adopt", standing.name, f"generation {generation.number} runs"))
