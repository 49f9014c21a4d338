"""The newest answers of each VM's checks, over the guests that came and went: kept small, in memory."""

from __future__ import annotations

from array import array
from typing import get_args

from reconciler.model.health import ProbePlan, ProbeResult, Round
from reconciler.model.names import GenerationNumber, VMName

MOST_ROUNDS = 120
"""Of one VM: ten minutes at a period of 5 s, in some 2 KiB."""
MOST_TRAILS = 20_000
"""VMs, also of those that left: 40 MiB at the very most."""
CLOSE = 1.0
"""Seconds within which equal answers count as one: a guest that boots is asked many times a second."""
RESULTS: tuple[ProbeResult, ...] = get_args(ProbeResult)


class ProbeHistory:
    """One VM's answers, oldest first; in arrays, since a thousand VMs have a hundred each."""

    __slots__ = ("_boots", "_generations", "_results", "_seconds")

    def __init__(self) -> None:
        self._boots, self._seconds = array("d"), array("f")
        self._results, self._generations = bytearray(), array("I")

    def add(self, one: Round) -> None:
        columns = (self._boots, self._seconds, self._results, self._generations)
        if len(self._boots) > 1 and self._same(one):
            for column in columns:
                column.pop()
        elif len(self._boots) >= MOST_ROUNDS:
            for column in columns:
                del column[0]
        self._boots.append(one.boot)
        self._seconds.append(one.seconds)
        self._results.append(RESULTS.index(one.result))
        self._generations.append(one.generation)

    def _same(self, one: Round) -> bool:
        """As the newest in all but time, and close to the one before it: no run is swallowed whole."""
        return (
            one.boot - self._boots[-2] < CLOSE
            and RESULTS[self._results[-1]] == one.result
            and self._generations[-1] == one.generation
        )

    def rounds(self) -> tuple[Round, ...]:
        columns = zip(self._boots, self._results, self._seconds, self._generations, strict=True)
        return tuple(
            Round(boot, RESULTS[result], seconds, GenerationNumber(generation))
            for boot, result, seconds, generation in columns
        )


class Trails:
    """The trails of all VMs that were ever asked, or of the last so many."""

    def __init__(self) -> None:
        self._trails: dict[VMName, ProbeHistory] = {}

    def add(self, plan: ProbePlan, result: ProbeResult, seconds: float, boot: float) -> None:
        trail = self._trails.get(plan.vm)
        if trail is None:
            while len(self._trails) >= MOST_TRAILS:
                del self._trails[next(iter(self._trails))]
            trail = self._trails[plan.vm] = ProbeHistory()
        trail.add(Round(boot, result, seconds, plan.generation))

    def rounds(self, vm: VMName) -> tuple[Round, ...]:
        trail = self._trails.get(vm)
        return trail.rounds() if trail is not None else ()
