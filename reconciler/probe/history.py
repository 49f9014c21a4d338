"""The newest check results of each VM over all its guests, kept small and in memory."""

from __future__ import annotations

from array import array
from typing import get_args

from reconciler.model.health import ProbePlan, ProbeResult, Round
from reconciler.model.names import GenerationNumber, VMName

MOST_ROUNDS = 120
"""Rounds of one VM: ten minutes at a period of 5 s, in about 2 KiB."""
MOST_VMS = 20_000
"""VMs with a history, removed ones included: 40 MiB at most."""
CLOSE = 1.0
"""Seconds within which equal results count as one: a booting guest is asked many times a second."""
RESULTS: tuple[ProbeResult, ...] = get_args(ProbeResult)


class ProbeHistory:
    """Rounds of one VM, oldest first; in arrays, because a thousand VMs have a hundred rounds each."""

    __slots__ = ("_boots", "_generations", "_results", "_seconds")

    def __init__(self) -> None:
        self._boots, self._seconds = array("d"), array("f")
        self._results, self._generations = bytearray(), array("I")

    def add(self, one: Round) -> None:
        """Add a round; the oldest is dropped beyond MOST_ROUNDS."""
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
        """Whether a round equals the newest in all but time, and is close to the one before that.

        Comparing the time with the one before keeps both ends of a long run.
        """
        return (
            one.boot - self._boots[-2] < CLOSE
            and RESULTS[self._results[-1]] == one.result
            and self._generations[-1] == one.generation
        )

    def rounds(self) -> tuple[Round, ...]:
        """All kept rounds, oldest first."""
        columns = zip(self._boots, self._results, self._seconds, self._generations, strict=True)
        return tuple(
            Round(boot, RESULTS[result], seconds, GenerationNumber(generation))
            for boot, result, seconds, generation in columns
        )


class ProbeHistories:
    """The histories of the VMs that were asked most recently, at most MOST_VMS."""

    def __init__(self) -> None:
        self._histories: dict[VMName, ProbeHistory] = {}

    def add(self, plan: ProbePlan, result: ProbeResult, seconds: float, boot: float) -> None:
        """Add a round that took `seconds` and ended at boot-clock time `boot`."""
        trail = self._histories.get(plan.vm)
        if trail is None:
            while len(self._histories) >= MOST_VMS:
                del self._histories[next(iter(self._histories))]
            trail = self._histories[plan.vm] = ProbeHistory()
        trail.add(Round(boot, result, seconds, plan.generation))

    def rounds(self, vm: VMName) -> tuple[Round, ...]:
        """The rounds of a VM, oldest first; empty if it was never asked."""
        trail = self._histories.get(vm)
        return trail.rounds() if trail is not None else ()
