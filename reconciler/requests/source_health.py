"""When a source that cannot be read is worth telling, and when that is over."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.change import AddEvent, Change, PutSource
from reconciler.model.record import Event, SourceRecord
from reconciler.model.refusals import Unreachable
from reconciler.now import Now

TOLD_AFTER = 120.0
"""Seconds of failed looks in a row. Shorter ones are the network's, and the next look mends them."""


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
