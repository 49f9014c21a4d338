"""Law 14, watched from outside: a changed check never stops a healthy guest, nor goes past its gates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from reconciler.model.actions import StopGuest
from reconciler.model.change import AddEvent
from reconciler.model.check_trial import CheckTrial
from reconciler.model.checks import HttpCheck
from reconciler.model.desired import HealthPolicy, VMSpec, rollout_key
from reconciler.model.names import VMName
from reconciler.model.plan import Plan
from reconciler.model.record import VMRecord
from tests.fakes.prober import WRONG
from tests.world import World


class CheckOracle:
    def __init__(self, world: World, broken: Callable[[str], Exception]) -> None:
        self.world, self.broken = world, broken
        self._trials: dict[VMName, CheckTrial] = {}

    def decided(self, serving: set[VMName]) -> None:
        """At the moment of a decision. Raises what `broken` makes."""
        passed = self.world.reconciler.passed
        for action in passed.plan.actions if passed else ():
            if isinstance(action, StopGuest):
                self._stopped(action)
        vms = self.world.ledger.record().vms
        trials = {name: vm.check_trial for name, vm in vms.items() if vm.check_trial is not None}
        begun = {n for n, trial in trials.items() if not _same(trial, self._trials.get(n))}
        former, self._trials = self._trials, trials
        for name in former.keys() - trials.keys():
            self._refused(former[name], vms.get(name))
        if passed is None or passed.desired is None:
            return
        specs = passed.desired.vms
        counts = Counter(specs[n].group for n in trials if n in specs and specs[n].group)
        for group, count in counts.items():
            before = sum(n in specs and specs[n].group == group for n in former)
            if count > max(passed.desired.group(group).max_unavailable, before):
                raise self.broken(f"law 14: checks of {count} of {group} are tried at once")
        # One that an earlier pass began, which death cut short, was decided on what was desired then.
        for name in begun & serving & specs.keys() & _tried(passed.plan):
            self._after_its_canary(specs[name], trials[name])

    def _stopped(self, action: StopGuest) -> None:
        stop = self.world.record(action.vm).stop
        if stop is None or action.why.startswith("carrying on"):
            return
        if stop.cause == "unhealthy" and action.instance in self.world.hypervisor.unjust:
            raise self.broken(f"law 14: {action.vm} is well, and stopped for what it was asked")

    def _refused(self, trial: CheckTrial, vm: VMRecord | None) -> None:
        """Only wrong ones are: a guest that fails right ones is ill, and fails its own, too."""
        key = vm.last_good and rollout_key(vm.last_good.digest, trial.health) if vm else None
        tried = [b for b in vm.blocked_checks if b.key == key] if vm else []
        if tried and not tried[0].withdrawn and not _is_wrong(trial.health):
            raise self.broken(f"law 14: right checks were refused: {tried[0].reason}")

    def _after_its_canary(self, spec: VMSpec, trial: CheckTrial) -> None:
        """Who serves waits for the canary, unless it goes back."""
        passed = self.world.reconciler.passed
        good = self.world.record(spec.name).last_good
        back = trial.back or (
            good is not None and good.checks is not None and good.checks.before == trial.health
        )
        if passed is None or passed.desired is None or not spec.group or back:
            return
        canaries = passed.desired.group(spec.group).canary
        for name in canaries if spec.name not in canaries else ():
            canary, wanted = self.world.ledger.record().vms.get(name), passed.desired.vms.get(name)
            if wanted is not None and (canary is None or not has_all(canary, wanted)):
                raise self.broken(f"law 14: checks of {spec.name} are tried before its canary's")

    def look(self) -> None:
        """What is committed has checks that it has passed."""
        for name, vm in self.world.ledger.record().vms.items():
            for generation in vm.generations:
                if generation.verdict == "committed" and _is_wrong(generation.spec.health):
                    raise self.broken(f"law 14: {name} has checks that no guest passes")

    def converged(self, name: VMName, spec: VMSpec) -> None:
        """At the end of a life, of a VM that nothing keeps."""
        if not has_all(self.world.record(name), spec):
            raise self.broken(f"law 13: {name} has not its desired checks")


def _tried(plan: Plan) -> set[VMName]:
    """The VMs whose changed checks this plan puts on trial."""
    events = (change.event for change in plan.changes if isinstance(change, AddEvent))
    return {event.vm for event in events if event.kind == "checks-tried" and event.vm}


def _same(trial: CheckTrial, former: CheckTrial | None) -> bool:
    """Whether it goes on, perhaps with its whole time again."""
    return former is not None and replace(trial, deadline=former.deadline) == former


def has_all(vm: VMRecord, spec: VMSpec) -> bool:
    good = vm.last_good
    if good is None or good.digest != spec.digest:
        return False
    present, wanted = good.spec.health, spec.health
    same = (present.checks, present.failure_threshold) == (wanted.checks, wanted.failure_threshold)
    return same and present.startup_deadline >= wanted.startup_deadline


def _is_wrong(health: HealthPolicy) -> bool:
    return any(isinstance(c, HttpCheck) and c.path.startswith(WRONG) for c in health.checks)
