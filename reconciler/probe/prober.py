"""The prober: one task a guest asks it for life, and counts what it hears.

    never passed: rounds overlap --(a round passes)--> passed once: one round after the other

A booting guest lets connections hang that were opened before its network was up, for as long as
their timeout. So until a guest passes for the first time a round starts each period, whether or
not the former ones were answered; the answer of the newest round counts, and an older one that
comes later is dropped. Afterwards a hanging round is an answer that must not be lost, and the
next one waits for it.

When a guest that has never passed answers *no* quickly, its network is up and its service is about
to be: for a while it is asked again at once, so that its first yes is heard early.

Changed checks on trial are asked of the same guest by a second task, with counts of their own, one
round after the other and never eagerly: that guest serves.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

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
from reconciler.probe.history import Trails
from reconciler.probe.registry import ASKERS, AskerKinds, Askers

log = logging.getLogger(__name__)

MOST_ROUNDS = 256
"""Rounds in flight for all guests together: bounds open files, and the burst after a start."""
MOST_OVERLAP = 16
"""Rounds in flight for one guest that has never passed."""
EAGER_PERIOD = 0.02
"""Seconds from one round to the next while a guest that has never passed answers quickly."""
MOST_EAGER = 100
"""Rounds of that kind for one guest, over its life: a service that takes long is not pestered."""
LONG_PERIOD = 1.0
"""Seconds from which on the rounds of many guests are spread over the period."""


_Key = tuple[InstanceId, str]
"""Whom, and by the plan's question what: what was answered to another question does not count."""
Plans = Mapping[InstanceId, ProbePlan]


@dataclass(slots=True, eq=False)
class _ProbedGuest:
    instance: InstanceId
    plan: ProbePlan
    health: ProbeCounts = NEVER_ASKED
    stirred: asyncio.Event = field(default_factory=asyncio.Event)
    spread: float = 1.0
    """Shortens the next pause, once."""
    asked: int = 0
    """Number of the newest round that was started."""
    heard: int = 0
    """Number of the newest round whose answers were counted."""
    eager: int = MOST_EAGER
    """How often it may still be asked again at once."""
    pending: list[asyncio.Task[None]] = field(default_factory=list)
    """Rounds in flight, oldest first."""

    def __post_init__(self) -> None:
        self._take_place()

    def replan(self, plan: ProbePlan) -> None:
        changed = plan.period != self.plan.period
        self.plan = plan
        if changed:
            self._take_place()
        self.stirred.set()

    def _take_place(self) -> None:
        # 1,000 guests that were adopted at once are not to be asked at once for ever.
        if self.plan.period >= LONG_PERIOD:
            self.spread = 0.5 + (zlib.crc32(self.instance.encode()) % 500) / 1000

    def gap(self) -> float:
        """Seconds from the start of one round to the start of the next."""
        if self.answers_quickly:
            return min(self.plan.period, EAGER_PERIOD)
        return self.plan.period * self.spread

    def next_round(self) -> int:
        self.asked += 1
        return self.asked

    def make_room(self) -> None:
        """Give up a hanging round for a new one.

        Never the oldest, which a slow service may yet answer within its timeout, and not the
        newest, which have waited least.
        """
        if len(self.pending) >= MOST_OVERLAP:
            self.pending[1].cancel()

    @property
    def answers_quickly(self) -> bool:
        eager = self.eager > 0 and not self.plan.beside
        return eager and not self.health.ever_passed and self.heard == self.asked

    @property
    def boots(self) -> bool:
        """It may not be up yet, and let connections hang."""
        return not self.health.ever_passed and not self.plan.beside


class GuestProber:
    """Asks guests how they are. `wake` is called when an answer may change a decision."""

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
        self._tasks: dict[_Key, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._trails = Trails()
        self._slots = asyncio.Semaphore(MOST_ROUNDS)
        self._read_console = read_console
        self._askers = Askers(kinds)

    def watch(self, plans: Plans, trials: Plans | None = None) -> None:
        """From now on ask exactly these; where the question is as before the counters go on.

        So changed checks that were on trial keep theirs when they become the present ones. Call it
        from the loop's thread.
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
                self._begin(key, _ProbedGuest(key[0], plan))
            elif plan != guest.plan:
                guest.replan(plan)
        self._plans, self._trials = dict(plans), dict(trials)

    def health(self) -> Mapping[InstanceId, ProbeCounts]:
        return {key[0]: self._guests[key].health for key in _by_question(self._plans)}

    def trials(self) -> Mapping[InstanceId, ProbeCounts]:
        return {key[0]: self._guests[key].health for key in _by_question(self._trials)}

    def rounds(self, vm: VMName) -> tuple[Round, ...]:
        """The newest answers of a VM's checks, oldest first."""
        return self._trails.rounds(vm)

    async def close(self) -> None:
        """Ask nobody any more; the connections are closed when this returns."""
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
                if guest.boots:
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
        """Start a round and do not wait for it; the slot is given back when it ends."""
        if guest.answers_quickly:
            guest.eager -= 1
        guest.make_room()
        asking = asyncio.create_task(self._round(guest, guest.next_round()))
        guest.pending.append(asking)
        asking.add_done_callback(guest.pending.remove)
        # Not in the round itself: one that is cancelled before it begins never gets there.
        asking.add_done_callback(self._free_slot)

    async def _round(self, guest: _ProbedGuest, number: int) -> None:
        """Ask all checks at once, and count the answers."""
        match guest.plan.checks or (ProcessCheck(),):
            case (check,):  # the common case needs no further task
                answers = [await self._answer(check, guest)]
            case checks:
                answers = await asyncio.gather(*(self._answer(c, guest) for c in checks))
        if number > guest.heard:
            guest.heard = number
            guest.stirred.set()
            self._count(guest, answers)

    def _free_slot(self, _: asyncio.Task[None]) -> None:
        self._slots.release()

    def _count(self, guest: _ProbedGuest, answers: list[CheckAnswer]) -> None:
        before = guest.health
        now = self._clock.now().boot
        guest.health = after_round(before, answers, now)
        took = max(answer.seconds for answer in answers)
        if not guest.plan.beside:
            self._trails.add(guest.plan, verdict(answers), took, now)
        if guest.health.ever_passed and not before.ever_passed:
            for other in guest.pending:
                if other is not asyncio.current_task():
                    other.cancel()
        if matters(before, guest.health):
            self._wake()

    async def _answer(self, check: CheckSpec, guest: _ProbedGuest) -> CheckAnswer:
        began = asyncio.get_running_loop().time()
        asked = AskedGuest(guest.instance, self._read_console)
        result, text = await self._askers.ask(check, asked)
        took = asyncio.get_running_loop().time() - began
        answer = CheckAnswer(check.kind, result, detail(text), took, check.purpose)
        if not guest.plan.beside:
            self._on_answer(answer)
        return answer


def _by_question(plans: Plans) -> dict[_Key, ProbePlan]:
    return {(instance, plan.question): plan for instance, plan in plans.items()}


async def _pause(guest: _ProbedGuest, started: float) -> None:
    """Until the next round is due; a changed plan or a quick answer is heeded at once."""
    loop = asyncio.get_running_loop()
    while (left := started + guest.gap() - loop.time()) > 0:
        guest.stirred.clear()
        try:
            async with asyncio.timeout(left):
                await guest.stirred.wait()
        except TimeoutError:
            break
    guest.spread = 1.0
