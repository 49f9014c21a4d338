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

TOLD_AFTER = 120.0
"""Seconds of failed looks in a row. Shorter ones are the network's, and the next look mends them."""


def lineage(record: Record) -> Lineage:
    """What a new revision must continue.

    That is the desired revision. With the ledger it is lost, and then the revisions of what was
    found running take its place, so that losing state opens no way back to an old commit.
    """
    source = record.source
    if source.revision is not None:
        return Lineage((source.revision,), source.rewritten)
    found = {g.revision for vm in record.vms.values() for g in _in_force(vm)}
    return Lineage(tuple(sorted(found)), source.rewritten)


def _in_force(vm: VMRecord) -> list[Generation]:
    good = vm.last_good
    running = vm.generation(vm.start.generation) if vm.start is not None else None
    return [g for g in (good, running) if g is not None]


def accept_rewrite(revision: str, record: Record, now: Now) -> Answer:
    """Take the refused revision as what the next one continues. Raises RequestRefused."""
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
    words = f"revision {refused[:8]} is followed though the branch was rewritten"
    return done([put], "rewrite-accepted", words, now, None)


def failed(source: SourceRecord, since: float, kind: str, error: str, now: Now) -> list[Change]:
    """A look failed, as all have `since` this moment of the boot clock. Told once, at its beginning."""
    lasted = now.boot - since
    if source.unreachable is not None or lasted < TOLD_AFTER:
        return []
    found = Unreachable(kind, now.wall - lasted)
    message = f"the source has not been read for {lasted:.0f} s, what runs stays as it is: {error}"
    event = Event("source-unreachable", message, now.wall, severity="warning")
    return [PutSource(replace(source, unreachable=found)), AddEvent(event)]


def answered(source: SourceRecord, now: Now) -> list[Change]:
    """A look was answered, whatever it found."""
    trouble = source.unreachable
    if trouble is None:
        return []
    lasted = max(0.0, now.wall - trouble.since_wall)
    message = f"the source is read again after {lasted:.0f} s ({trouble.kind})"
    event = Event("source-reachable", message, now.wall)
    return [PutSource(replace(source, unreachable=None)), AddEvent(event)]
