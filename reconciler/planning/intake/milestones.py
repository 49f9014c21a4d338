"""What is remembered of living guests: that they said they are up, how they ended, that they were well."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.guest_announcements import Said
from reconciler.model.observed import Guest
from reconciler.model.record import Candidate, Start
from reconciler.planning.context import Draft, Standing
from reconciler.planning.health import passing_for


def remember(draft: Draft, standing: Standing) -> None:
    """A console is bounded, and a later daemon asks anew: what was seen once stays known."""
    start, candidate = standing.record.start, standing.record.candidate
    if start is not None and standing.guest is not None:
        said, passed = _seen(draft, standing, start, standing.guest)
        if (said, passed) != (start.said, start.passed):
            seen = replace(start, said=said, passed=passed)
            standing.record = replace(standing.record, start=seen)
    if candidate is not None and standing.candidate is not None:
        said, passed = _seen(draft, standing, candidate, standing.candidate)
        if (said, passed) != (candidate.said, candidate.passed):
            beside = replace(candidate, said=said, passed=passed)
            standing.record = replace(standing.record, candidate=beside)


def is_remembered(draft: Draft, standing: Standing) -> bool:
    """Whether the record holds all that the guest that serves has shown."""
    start, guest = standing.record.start, standing.guest
    if start is None or guest is None:
        return True
    return _seen(draft, standing, start, guest) == (start.said, start.passed)


def _seen(
    draft: Draft, standing: Standing, begun: Start | Candidate, guest: Guest
) -> tuple[Said, bool]:
    if guest.instance != begun.instance:
        return begun.said, begun.passed
    generation = standing.record.generation(guest.generation)
    passed = begun.passed or (
        generation is not None and passing_for(guest, generation.spec.health, draft.now) is not None
    )
    return guest.said, passed
