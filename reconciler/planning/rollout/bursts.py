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

from reconciler.model.lifecycle import WantedDigest
from reconciler.now import Deadline
from reconciler.planning.context import PlanBuilder, VMContext

QUIET = 5.0
"""Seconds without another change after which the newest one is followed."""
MOST = 30.0
"""Seconds after which the newest one is followed, however quickly the next ones come."""


def note_wanted(plan: PlanBuilder, vm: VMContext) -> None:
    """Record when the desired digest changed."""
    spec, known = vm.spec, vm.record.wanted
    if spec is None or (known is not None and known.digest == spec.digest):
        return
    now, burst, good = plan.now, None, vm.record.last_good
    under_way = known is not None and not (good is not None and good.digest == known.digest)
    if known is not None and under_way and known.since.boot_id == now.boot_id:
        quickly = now.boot - known.since.boot < QUIET
        burst = _burst(plan, vm, known) if quickly else None
    wanted = WantedDigest(spec.digest, Deadline(now.boot, now.boot_id), burst)
    vm.record = replace(vm.record, wanted=wanted)


def _burst(plan: PlanBuilder, vm: VMContext, known: WantedDigest) -> Deadline:
    """Until when this change may be delayed: a stream of pushes stops a guest once in `MOST`.

    The time starts again only when its last change was started; otherwise none ever would be.
    """
    start = vm.record.start
    begun = vm.record.generation(start.generation) if start is not None else None
    followed = begun is not None and begun.digest == known.digest
    if known.burst is None or (known.burst.passed(plan.now) and followed):
        return plan.deadline(MOST)
    return known.burst


def is_calm(plan: PlanBuilder, vm: VMContext) -> bool:
    """Whether a living guest may be stopped for the desired digest; if not, a wait says so."""
    wanted, now = vm.record.wanted, plan.now
    if wanted is None or wanted.burst is None or wanted.burst.passed(now):
        return True
    if wanted.since.boot_id != now.boot_id or now.boot >= wanted.since.boot + QUIET:
        return True
    plan.wait(
        "burst", vm.name,
        f"several changes came within {QUIET:g}s: the newest is followed when no other comes for so long",
        min(wanted.since.boot + QUIET, wanted.burst.boot),
    )  # fmt: skip
    return False
