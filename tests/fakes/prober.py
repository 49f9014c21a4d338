"""The prober over guests in memory: one round for each whenever a test says so."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.model.checks import HttpCheck
from reconciler.model.health import ProbeCounts, ProbePlan, ProbeResult, Round
from reconciler.model.names import InstanceId, VMName
from tests.fakes.clock import FakeClock
from tests.fakes.guest import FakeGuest, reached
from tests.fakes.rounds import next_round
from tests.fakes.taps import FakeTaps

MOST_ANSWERS = 120
WRONG = "/missing"
"""How a path begins that no guest has, however well it is."""


@dataclass
class FakeProber:
    """Counts by guest and question, as the real one does."""

    clock: FakeClock
    taps: FakeTaps
    guests: dict[InstanceId, FakeGuest] = field(default_factory=dict, kw_only=True)
    watched: Mapping[InstanceId, ProbePlan] = field(default_factory=dict, kw_only=True)
    on_trial: Mapping[InstanceId, ProbePlan] = field(default_factory=dict, kw_only=True)
    healths: dict[InstanceId, ProbeCounts] = field(default_factory=dict, kw_only=True)
    trial_healths: dict[InstanceId, ProbeCounts] = field(default_factory=dict, kw_only=True)
    unjust: set[InstanceId] = field(default_factory=set, kw_only=True)
    """Guests that are well, and whose newest answer was no for the question's sake alone."""
    lost_paths: set[str] = field(default_factory=set, kw_only=True)
    """Paths that guests do not answer any more."""
    answers: dict[VMName, deque[Round]] = field(default_factory=dict, kw_only=True)

    def watch(
        self,
        plans: Mapping[InstanceId, ProbePlan],
        trials: Mapping[InstanceId, ProbePlan] | None = None,
    ) -> None:
        trials = trials or {}
        counted = {
            (i, p.question): h[i]
            for asked, h in ((self.watched, self.healths), (self.on_trial, self.trial_healths))
            for i, p in asked.items()
            if i in h
        }
        for asked, healths in ((plans, self.healths), (trials, self.trial_healths)):
            healths.clear()
            healths.update(
                (i, counted[i, p.question]) for i, p in asked.items() if (i, p.question) in counted
            )
        self.watched, self.on_trial = plans, trials

    def health(self) -> Mapping[InstanceId, ProbeCounts]:
        return dict(self.healths)

    def trials(self) -> Mapping[InstanceId, ProbeCounts]:
        return dict(self.trial_healths)

    def forget_answers(self) -> None:
        """As when the daemon ends."""
        self.healths.clear()
        self.trial_healths.clear()

    def probe(self) -> None:
        """One round for every guest that is watched."""
        living = Counter(g.machine.vm for g in self.guests.values() if g.process.alive)
        for instance, plan in self.watched.items():
            guest = self.guests.get(instance)
            if guest is None or not guest.process.alive:
                continue
            alone = living[guest.machine.vm] < 2
            self._ask(guest, plan, alone=alone)
            if (trial := self.on_trial.get(instance)) is not None:
                fate = self._fate(guest, trial, alone=alone)
                former = self.trial_healths.get(instance, ProbeCounts())
                self.trial_healths[instance] = next_round(
                    former, fate, self.clock.now().boot, live=trial.asks_for_life
                )

    def _ask(self, guest: FakeGuest, plan: ProbePlan, *, alone: bool) -> None:
        instance, machine, now = guest.process.instance, guest.machine, self.clock.now().boot
        fate = self._fate(guest, plan, alone=alone)
        former = self.healths.get(instance, ProbeCounts())
        self.healths[instance] = after = next_round(former, fate, now, live=plan.asks_for_life)
        if fate == "bad" and guest.fate == "good" and self.is_wrong(plan):
            self.unjust.add(instance)
        else:
            self.unjust.discard(instance)
        result: ProbeResult = "success" if after.passing_since is not None else "failure"
        kept = self.answers.setdefault(machine.vm, deque(maxlen=MOST_ANSWERS))
        kept.append(Round(now, result, 0.0, machine.generation))

    def _fate(self, guest: FakeGuest, plan: ProbePlan, *, alone: bool) -> str:
        asked = alone or reached(guest, plan)
        if not asked or not self.taps.lead_to(guest.machine):
            return "bad"
        return "bad" if guest.fate != "unasked" and self.is_wrong(plan) else guest.fate

    def rounds(self, vm: VMName) -> tuple[Round, ...]:
        return tuple(self.answers.get(vm, ()))

    def is_wrong(self, plan: ProbePlan) -> bool:
        """Whether it asks for what is nowhere."""
        paths = [check.path for check in plan.checks if isinstance(check, HttpCheck)]
        return any(path.startswith(WRONG) or path in self.lost_paths for path in paths)
