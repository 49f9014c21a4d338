"""Committed guests that live and may not serve: told once when it begins, and once when it is over."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.restarts import Unready
from reconciler.planning.context import Draft, Standing
from reconciler.planning.health import symptom


def follow(draft: Draft, standing: Standing) -> None:
    """A guest that must be restarted is told of by its restart, one on trial by its verdict."""
    guest, record = standing.guest, standing.record
    running = record.generation(guest.generation) if guest is not None else None
    if guest is None or running is None or standing.disturbed or standing.stopping:
        return
    if standing.judgement == "healthy" and record.unready is not None:
        standing.record = replace(record, unready=None)
        words = f"{standing.name}: generation {running.number} is ready again"
        draft.event("guest-ready", words, standing, generation=running.number)
    elif standing.judgement == "unhealthy" and record.unready is None:
        if running.verdict != "committed" or record.rollback is not None or standing.ailing:
            return
        why = symptom(guest, running.spec.health)
        standing.record = replace(record, unready=Unready(draft.now.wall, why))
        words = f"{standing.name}: generation {running.number} is not ready: {why}; it is not restarted for that"
        draft.event("guest-not-ready", words, standing, "warning", running.number)
