"""The prober: one task for each guest runs its checks in rounds and counts the results.

    never passed: rounds overlap --(a round passes)--> passed once: one round after the other

Connections that are opened before a booting guest's network is up hang until their timeout. So until a
guest passes for the first time, a round starts each period whether or not earlier ones have ended; the
result of the newest round counts, and older ones that end later are dropped. Afterwards a hanging
round is a result in itself, and the next round waits for it.

If a guest that has never passed answers *no* quickly, its network is up and its service is about to
start: for a while it is asked again at once, so that its first pass is seen early.

Changed checks on trial are run against the same guest by a second task with counts of its own, one
round after the other and never eagerly, because that guest serves.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from reconciler.clock import Clock
from reconciler.model.checks import CheckSpec, ProcessCheck
from reconciler.model.health import (
    NEVER_ASKED,
    CheckAnswer,
    ProbeCounts,
    ProbePlan,
    Round,
)
from reconciler.model.names import InstanceId, VMName
from reconciler.probe.asker import AskedGuest, ReadConsole, detail, no_console
from reconciler.probe.counters import after_round, matters, verdict
from reconciler.probe.history import ProbeHistories
from reconciler.probe.registry import ASKERS, AskerKinds, Askers

log = logging.getLogger(__name__)

MOST_ROUNDS = 256
"""Rounds in flight for all guests together. Bounds open files, and the burst after the daemon starts."""
MOST_OVERLAP = 16
"""Rounds in flight for one guest that has never passed."""
EAGER_PERIOD = 0.02
"""Seconds from one round to the next while a guest that has never passed answers quickly."""
MOST_EAGER = 100
"""Eager rounds of one guest over its life, so that a service that starts slowly is not overloaded."""
LONG_PERIOD = 1.0
"""Period in seconds from which on the rounds of many guests are spread over it."""


_Key = tuple[InstanceId, str]
"""The guest, and a digest of its checks: results of other checks must not count."""
_Memory = dict[CheckSpec, Any]
"""What askers keep about one guest."""
Plans = Mapping[InstanceId, ProbePlan]


@dataclass(slots=True, eq=False)
class _ProbedGuest:
    instance: InstanceId
    plan: ProbePlan
    memory: _Memory
    """Shared by all checks of the guest."""
    health: ProbeCounts = NEVER_ASKED
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    spread: float = 1.0
    """Factor that shortens the next pause, once."""
    asked: int = 0
    """Number of the newest round that was started."""
    counted: int = 0
    """Number of the newest round whose answers were counted."""
    eager: int = MOST_EAGER
    """Eager rounds that are left."""
    pending: list[asyncio.Task[None]] = field(default_factory=list)
    """Rounds in flight, oldest first."""

    def __post_init__(self) -> None:
        self._spread_rounds()

    def replan(self, plan: ProbePlan) -> None:
        """Take changed checks or another period."""
        changed = plan.period != self.plan.period
        self.plan = plan
        if changed:
            self._spread_rounds()
        self.woken.set()

    def _spread_rounds(self) -> None:
        # Guests adopted at the same moment must not be asked at the same moments for ever.
        if self.plan.period >= LONG_PERIOD:
            self.spread = 0.5 + (zlib.crc32(self.instance.encode()) % 500) / 1000

    def gap(self) -> float:
        """Seconds from the start of one round to the start of the next."""
        if self.answers_quickly:
            return min(self.plan.period, EAGER_PERIOD)
        return self.plan.period * self.spread

    def next_round(self) -> int:
        """The number of a new round."""
        self.asked += 1
        return self.asked

    def make_room(self) -> None:
        """Cancel a hanging round to make room for a new one.

        Not the oldest, which a slow service may still answer within its timeout, and not one of the
        newest, which have waited least: so the second oldest.
        """
        if len(self.pending) >= MOST_OVERLAP:
            self.pending[1].cancel()

    @property
    def answers_quickly(self) -> bool:
        """Whether to start the next round at once: it never passed, and its last round has ended."""
        eager = self.eager > 0 and not self.plan.beside
        return eager and not self.health.ever_passed and self.counted == self.asked

    @property
    def is_booting(self) -> bool:
        """Whether its network may not be up yet, so that connections may hang."""
        return not self.health.ever_passed and not self.plan.beside


class GuestProber:
    """Runs the checks of all guests. `wake` is called when a result may change a decision."""

    def __init__(
        self,
        clock: Clock,
        wake: Callable[[], None],
        on_answer: Callable[[CheckAnswer], None] = lambda _answer: None,
        read_console: ReadConsole = no_console,
        kinds: AskerKinds = ASKERS,
    ) -> None:
        self._clock = clock
        self._wake = wake
        self._on_answer = on_answer
        self._plans: Plans = {}
        self._trials: Plans = {}
        self._guests: dict[_Key, _ProbedGuest] = {}
        self._memories: dict[InstanceId, _Memory] = {}
        self._tasks: dict[_Key, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._histories = ProbeHistories()
        self._slots = asyncio.Semaphore(MOST_ROUNDS)
        self._read_console = read_console
        self._askers = Askers(kinds)

    def watch(self, plans: Plans, trials: Plans | None = None) -> None:
        """Replace the set of guests and checks. Counts continue where guest and checks are unchanged.

        So changed checks on trial keep their counts when they are accepted. Call it from the event
        loop's thread.
        """
        trials = trials or {}
        if plans == self._plans and trials == self._trials:
            return
        wanted = _by_question(trials) | _by_question(plans)
        for key in self._guests.keys() - wanted.keys():
            self._end(key)
        for key, plan in wanted.items():
            guest = self._guests.get(key)
            if guest is None:
                memory = self._memories.setdefault(key[0], {})
                self._begin(key, _ProbedGuest(key[0], plan, memory))
            elif plan != guest.plan:
                guest.replan(plan)
        for gone in self._memories.keys() - {instance for instance, _ in wanted}:
            del self._memories[gone]
        self._plans, self._trials = dict(plans), dict(trials)

    def health(self) -> Mapping[InstanceId, ProbeCounts]:
        """The counts of each guest's present checks."""
        return {key[0]: self._guests[key].health for key in _by_question(self._plans)}

    def trials(self) -> Mapping[InstanceId, ProbeCounts]:
        """The counts of changed checks on trial."""
        return {key[0]: self._guests[key].health for key in _by_question(self._trials)}

    def rounds(self, vm: VMName) -> tuple[Round, ...]:
        """The newest answers of a VM's checks, oldest first."""
        return self._histories.rounds(vm)

    async def close(self) -> None:
        """Stop all checks; connections are closed when this returns."""
        self.watch({})
        if self._ending:
            await asyncio.wait(self._ending)
        await self._askers.close()

    def _begin(self, key: _Key, guest: _ProbedGuest) -> None:
        self._guests[key] = guest
        self._tasks[key] = asyncio.create_task(self._keep_asking(guest))

    def _end(self, key: _Key) -> None:
        del self._guests[key]
        task = self._tasks.pop(key)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        task.cancel()

    async def _keep_asking(self, guest: _ProbedGuest) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                started = loop.time()
                await self._slots.acquire()
                if guest.is_booting:
                    self._overlap(guest)
                else:
                    try:
                        await self._round(guest, guest.next_round())
                    finally:
                        self._slots.release()
                await _pause(guest, started)
        finally:
            for asking in guest.pending:
                asking.cancel()
            if guest.pending:
                await asyncio.wait(guest.pending)

    def _overlap(self, guest: _ProbedGuest) -> None:
        """Start a round without waiting for it; its slot is released when it ends."""
        if guest.answers_quickly:
            guest.eager -= 1
        guest.make_room()
        asking = asyncio.create_task(self._round(guest, guest.next_round()))
        guest.pending.append(asking)
        asking.add_done_callback(guest.pending.remove)
        # As a callback and not in the round: a task cancelled before its first step runs none of its code.
        asking.add_done_callback(self._free_slot)

    async def _round(self, guest: _ProbedGuest, number: int) -> None:
        """Run all checks of a guest concurrently, and count the results."""
        match guest.plan.checks or (ProcessCheck(),):
            case (check,):  # the common case needs no extra task
                answers = [await self._answer(check, guest)]
            case checks:
                answers = await asyncio.gather(*(self._answer(c, guest) for c in checks))
        if number > guest.counted:
            guest.counted = number
            guest.woken.set()
            self._count(guest, answers)

    def _free_slot(self, _: asyncio.Task[None]) -> None:
        self._slots.release()

    def _count(self, guest: _ProbedGuest, answers: list[CheckAnswer]) -> None:
        before = guest.health
        now = self._clock.now().boot
        guest.health = after_round(before, answers, now)
        took = max(answer.seconds for answer in answers)
        if not guest.plan.beside:
            self._histories.add(guest.plan, verdict(answers), took, now)
        if guest.health.ever_passed and not before.ever_passed:
            for other in guest.pending:
                if other is not asyncio.current_task():
                    other.cancel()
        if matters(before, guest.health):
            self._wake()

    async def _answer(self, check: CheckSpec, guest: _ProbedGuest) -> CheckAnswer:
        began = asyncio.get_running_loop().time()
        asked = AskedGuest(guest.instance, self._read_console, guest.memory)
        result, text = await self._askers.ask(check, asked)
        took = asyncio.get_running_loop().time() - began
        answer = CheckAnswer(check.kind, result, detail(text), took, check.purpose)
        if not guest.plan.beside:
            self._on_answer(answer)
        return answer


def _by_question(plans: Plans) -> dict[_Key, ProbePlan]:
    return {(instance, plan.question): plan for instance, plan in plans.items()}


async def _pause(guest: _ProbedGuest, started: float) -> None:
    """Wait until the next round is due; a changed plan or a quick answer makes it due sooner."""
    loop = asyncio.get_running_loop()
    while (left := started + guest.gap() - loop.time()) > 0:
        guest.woken.clear()
        try:
            async with asyncio.timeout(left):
                await guest.woken.wait()
        except TimeoutError:
            break
    guest.spread = 1.0
