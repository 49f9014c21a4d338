"""Law 14, held against every plan: a changed check never stops a healthy guest.

Like the rest of the linter it shares no code with what made the plan beyond judging health.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from reconciler.model.check_trial import CheckTrial
from reconciler.model.desired import DesiredState
from reconciler.model.names import GroupName, InstanceId, VMName
from reconciler.model.observed import Guest, Observed
from reconciler.model.plan import Violation
from reconciler.model.record import Generation, Record, VMRecord
from reconciler.now import Now
from reconciler.planning import guest_health
from reconciler.planning.lint.facts import PlanFacts

LAW = 14


def broken_by(facts: PlanFacts) -> Iterator[Violation]:
    """Violations of law 14 by this plan."""
    for name, vm in facts.after.items():
        before = facts.record.vms.get(name)
        if before is not None:
            yield from _replaced(before, vm, facts.observed, facts.now)
    if facts.desired is not None:
        yield from _at_once(facts.after, facts.desired, facts.record)


def _replaced(
    before: VMRecord, after: VMRecord, observed: Observed, now: Now
) -> Iterator[Violation]:
    """Violations if a committed generation gets other checks without a trial that its guest passed."""
    for generation in after.generations:
        former = before.generation(generation.number)
        if former is None or former.verdict != "committed":
            continue
        if former.spec.health == generation.spec.health:
            continue
        trial = before.check_trial
        if trial is None or not _is_of(trial, generation):
            yield Violation(LAW, after.name, "checks are replaced without a trial")
        elif not _passed(trial, _living(observed, after.name, trial.instance), now):
            yield Violation(LAW, after.name, "checks are replaced by some that were not passed")


def _is_of(trial: CheckTrial, generation: Generation) -> bool:
    return (trial.generation, trial.health) == (generation.number, generation.spec.health)


def _passed(trial: CheckTrial, guest: Guest | None, now: Now) -> bool:
    if guest is None:
        return False
    since = guest.trial.passing_since
    if not trial.health.checks:
        since = guest.process.started_boot
    return since is not None and now.boot - since >= trial.health.min_healthy_time


def broken_by_stop(facts: PlanFacts, vm: VMName, instance: InstanceId) -> Iterator[Violation]:
    """Violations if a guest is stopped for its health although it passes the checks in force before this plan."""
    before, changed = facts.record.vms.get(vm), facts.after.get(vm)
    guest = _living(facts.observed, vm, instance)
    if before is None or changed is None or changed.stop is None or guest is None:
        return
    generation = before.generation(guest.generation)
    begun = before.stop is not None and before.stop.instance == instance
    if changed.stop.cause != "unhealthy" or begun or generation is None:
        return
    if guest_health.judge(guest, generation.spec.health, facts.now) == "healthy":
        yield Violation(LAW, vm, "a guest that passes its checks is stopped as unhealthy")


def _at_once(
    after: Mapping[VMName, VMRecord], desired: DesiredState, record: Record
) -> Iterator[Violation]:
    counts, former = Counter[GroupName](), Counter[GroupName]()
    for name, spec in desired.vms.items():
        before = record.vms.get(name)
        now = after.get(name, before)
        former[spec.rollout_group] += before is not None and before.check_trial is not None
        counts[spec.rollout_group] += now is not None and now.check_trial is not None
    for group, count in counts.items():
        limit = desired.group(group).max_unavailable
        if count > max(limit, former[group]):
            words = f"checks of {count} are on trial at once: maxUnavailable is {limit}"
            yield Violation(LAW, group, words)


def _living(observed: Observed, vm: VMName, instance: str) -> Guest | None:
    guests = observed.guests.get(vm, ())
    return next((g for g in guests if g.alive and g.instance == instance), None)
