"""Changes of the source's record: unreachable, readable again, and a rewritten branch that a person accepts."""

from __future__ import annotations

from dataclasses import replace

from reconciler.errors import RequestRefused
from reconciler.model.change import AddEvent, Change, PutSource
from reconciler.model.desired import Lineage
from reconciler.model.event import Event
from reconciler.model.names import Revision
from reconciler.model.record import Generation, Record, SourceRecord, VMRecord
from reconciler.model.source_state import Unreachable
from reconciler.now import Now
from reconciler.requests.result import SHORTEST_PREFIX, Answer, done

REPORTED_AFTER = 120.0
"""Seconds of failed fetches in a row before an event. Shorter failures are common in networks and end by themselves."""


def lineage(record: Record) -> Lineage:
    """The commits that a new revision must descend from.

    Usually the desired revision. If a lost ledger lost that too, the revisions of the guests that were
    found running take its place, so that losing state does not allow going back to an old commit.
    """
    source = record.source
    if source.revision is not None:
        return Lineage((source.revision,), source.rewritten)
    # Losing the ledger must not allow a rollback of the repository, so running guests count.
    found = {g.revision for vm in record.vms.values() for g in _in_force(vm)}
    return Lineage(tuple(sorted(found)), source.rewritten)


def _in_force(vm: VMRecord) -> list[Generation]:
    good = vm.last_good
    running = vm.generation(vm.start.generation) if vm.start is not None else None
    return [g for g in (good, running) if g is not None]


def accept_rewrite(revision: str, record: Record, now: Now) -> Answer:
    """Allow the refused revision as the base of the next one. Raises RequestRefused."""
    rejection = record.source.rejection
    if rejection is None or rejection.kind != "ancestry":
        raise RequestRefused(
            "no rewritten branch is refused at present", hint="see `reconciler status`"
        )
    refused = rejection.revision
    if len(revision) < SHORTEST_PREFIX or not refused.startswith(revision):
        raise RequestRefused(
            f"{revision!r} is not the revision that is refused", hint=f"that is {refused}"
        )
    put = PutSource(replace(record.source, rewritten=Revision(refused)))
    words = f"revision {refused[:8]} is followed although the branch was rewritten"
    return done([put], "rewrite-accepted", words, now, None)


def failed(source: SourceRecord, since: float, kind: str, error: str, now: Now) -> list[Change]:
    """Changes after a failed fetch; all have failed `since` this boot-clock time. Reported once."""
    lasted = now.boot - since
    if source.unreachable is not None or lasted < REPORTED_AFTER:
        return []
    found = Unreachable(kind, now.wall - lasted)
    message = f"the source could not be read for {lasted:.0f} s, guests stay as they are: {error}"
    event = Event("source-unreachable", message, now.wall, severity="warning")
    return [PutSource(replace(source, unreachable=found)), AddEvent(event)]


def answered(source: SourceRecord, now: Now) -> list[Change]:
    """Changes after a successful fetch, whatever it found."""
    trouble = source.unreachable
    if trouble is None:
        return []
    lasted = max(0.0, now.wall - trouble.since_wall)
    message = f"the source can be read again after {lasted:.0f} s ({trouble.kind})"
    event = Event("source-reachable", message, now.wall)
    return [PutSource(replace(source, unreachable=None)), AddEvent(event)]
