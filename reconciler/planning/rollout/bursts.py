"""Pushes that come in quick succession: the first is followed at once, of the others only the newest.

    push 1      2   3   4            quiet
    ---- followed                    ---- 4 is followed, 2 and 3 never

A change whose generation is committed is no part of a burst: the next one is followed at once.

A guest is stopped for a change. To stop it for one that is already overtaken by the next would be an
outage for nothing. A newer commit still overtakes a failing one: a burst holds nothing up for longer
than `MOST`, and a generation that failed leaves no guest that would have to be stopped.
"""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.deadline import Deadline
from reconciler.model.restarts import Wanted
from reconciler.planning.context import Draft, Standing

QUIET = 5.0
"""Seconds without another change after which the newest one is followed."""
MOST = 30.0
"""Seconds after which the newest one is followed, however quickly the next ones come."""


def note_wanted(draft: Draft, standing: Standing) -> None:
    """Remember when the desired digest became another."""
    spec, known = standing.spec, standing.record.wanted
    if spec is None or (known is not None and known.digest == spec.digest):
        return
    now, burst, good = draft.now, None, standing.record.last_good
    under_way = known is not None and not (good is not None and good.digest == known.digest)
    if known is not None and under_way and known.since.boot_id == now.boot_id:
        quickly = now.boot - known.since.boot < QUIET
        burst = _burst(draft, standing, known) if quickly else None
    wanted = Wanted(spec.digest, Deadline(now.boot, now.boot_id), burst)
    standing.record = replace(standing.record, wanted=wanted)


def _burst(draft: Draft, standing: Standing, known: Wanted) -> Deadline:
    """Until when this change may be put off: a stream of pushes stops a guest once in `MOST`, not at each.

    A time that is over begins again only when what it ended with was started; else nothing would ever be.
    """
    start = standing.record.start
    begun = standing.record.generation(start.generation) if start is not None else None
    followed = begun is not None and begun.digest == known.digest
    if known.burst is None or (known.burst.passed(draft.now) and followed):
        return draft.deadline(MOST)
    return known.burst


def is_calm(draft: Draft, standing: Standing) -> bool:
    """Whether a guest that lives may be stopped for the desired digest; if not, it is a wait."""
    wanted, now = standing.record.wanted, draft.now
    if wanted is None or wanted.burst is None or wanted.burst.passed(now):
        return True
    if wanted.since.boot_id != now.boot_id or now.boot >= wanted.since.boot + QUIET:
        return True
    draft.wait(
        "burst", standing.name,
        f"several changes came within {QUIET:g}s: the newest is followed when no other comes for so long",
        min(wanted.since.boot + QUIET, wanted.burst.boot),
    )  # fmt: skip
    return False
