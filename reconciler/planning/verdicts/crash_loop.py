"""Guests that end again and again, in words."""

from __future__ import annotations

from reconciler.model.policy import CRASH_LOOP
from reconciler.model.setbacks import Backoff
from reconciler.now import Now

MINUTE, HOUR = 60.0, 3600.0


def crashes_in_words(backoff: Backoff, now: Now) -> str:
    """`crashed once`, or `crash loop: 7 crashes in 10 min`."""
    count = backoff.crashes
    if count < CRASH_LOOP:
        return f"crashed {'once' if count == 1 else f'{count} times'}"
    if not backoff.since_wall:  # of an older version
        return f"crash loop: {count} crashes in a row"
    return f"crash loop: {count} crashes in {_span(now.wall - backoff.since_wall)}"


def _span(seconds: float) -> str:
    """Rounded; the wall clock may have been set back."""
    seconds = max(seconds, 1.0)
    if seconds < 2 * MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 2 * HOUR:
        return f"{seconds / MINUTE:.0f} min"
    return f"{seconds / HOUR:.0f} h"
