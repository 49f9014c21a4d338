"""How long to wait before the next look at a source."""

from __future__ import annotations

LOCAL_INTERVAL = 1.0
"""Seconds; a look at a repository on this host costs a millisecond."""
FIRST_BACKOFF = 5.0
LONGEST_BACKOFF = 600.0
LONGEST_LOCAL_BACKOFF = 30.0
SPREAD = 0.1
"""Of the interval, up and down: many hosts must not ask one server at the same moment."""
MOST_DOUBLINGS = 16


FIRST_REST, LONGEST_REST = 300.0, 3600.0
"""Seconds until a revision is read again that could not be read within the bounds."""


def pause_before_reading_again(tries: int) -> float:
    return min(FIRST_REST * 2.0 ** (min(tries, MOST_DOUBLINGS) - 1), LONGEST_REST)


def delay_after(failures: int, interval: float, *, local: bool, draw: float) -> float:
    """Seconds to the next look; `draw` is a random number of [0, 1)."""
    if failures <= 0:
        return LOCAL_INTERVAL if local else interval * (1 + SPREAD * (2 * draw - 1))
    doubled = FIRST_BACKOFF * 2.0 ** min(failures - 1, MOST_DOUBLINGS)
    longest = LONGEST_LOCAL_BACKOFF if local else LONGEST_BACKOFF
    return min(doubled * (1 + 2 * SPREAD * draw), longest)
