"""Trial, commit, condemn: what a guest's health means for its generation.

  new digest                 healthy for minHealthyTime
------------> on trial ------------------------------------> committed = last good
                 |  exited, panicked, checks failed, deadline
                 v
             condemned ----> rollback to last good ----> rolled back
                                     |  fails too
                                     v
                                quarantine: no more by itself
"""

from __future__ import annotations

from dataclasses import replace

from reconciler.model import lifecycle
from reconciler.model.actions import DropGenerations
from reconciler.model.desired import HealthPolicy
from reconciler.model.lifecycle import Quarantine, RollbackState
from reconciler.model.names import Digest, GenerationNumber
from reconciler.model.observed import Guest
from reconciler.model.policy import SOAKED_RESET, STEADY, TROUBLE_BACKOFF, doubling
from reconciler.model.record import OF_CHECKS, Blocked, BuildTrouble, Evidence, Generation, VMRecord
from reconciler.model.trouble import TroubleKey
from reconciler.now import Deadline
from reconciler.planning import context, guest_health
from reconciler.planning.context import PlanBuilder, VMContext
from reconciler.planning.preflight import snapshots
from reconciler.planning.verdicts import holds

STOP_GRACE = 20.0
"""Seconds after the stop timeout until SIGKILL has taken effect: the last two steps of a stop."""
ASK_AGAIN = 0.5
"""Seconds within which a guest whose deadline passed without a check has almost certainly been checked."""
BLOCKED_KEPT = 20
"""Condemned digests remembered for each VM; the oldest are forgotten first."""


def judge_guest(plan: PlanBuilder, vm: VMContext, *, paused: bool) -> None:
    """Judge one living guest: commit, condemn, end a rollback, forget old crashes, or wait.

    `paused`: it is suspended, so no verdict is given.
    """
    guest, record = vm.guest, vm.record
    if vm.busy or paused or vm.stopping:
        return
    if guest is None:
        _judge_absence(plan, vm)
        return
    generation = record.generation(guest.generation)
    start = record.start
    if generation is None or start is None or start.instance != guest.instance:
        return
    if generation.verdict == "trial":
        if _passed_trial(plan, vm, generation, guest, start.deadline):
            commit(plan, vm, generation)
    elif record.rollback is not None and generation.number == record.rollback.target:
        _judge_rollback(plan, vm, generation)
    elif record.backoff is not None:
        _forgive_crashes(plan, vm, generation)


def judge_candidate(plan: PlanBuilder, vm: VMContext, *, paused: bool) -> None:
    """Judge the guest beside the serving one: condemn it, or mark it as ready to take over."""
    guest, candidate = vm.candidate, vm.record.candidate
    if vm.busy or paused or guest is None or candidate is None or vm.leaving is guest:
        return
    generation = vm.record.generation(candidate.generation)
    if candidate.routes is None or generation is None or generation.verdict == "condemned":
        return
    vm.ready = _passed_trial(plan, vm, generation, guest, candidate.deadline)


def _judge_absence(plan: PlanBuilder, vm: VMContext) -> None:
    """Fail a rollback whose guest did not even start within the deadline."""
    rollback = vm.record.rollback
    if rollback is None:
        return
    if rollback.deadline.passed(plan.now):
        quarantine(plan, vm, f"rolling back failed: not started in time: {rollback.reason}")
    else:
        plan.wake_at(rollback.deadline.boot)


def _passed_trial(
    plan: PlanBuilder, vm: VMContext, generation: Generation, guest: Guest, deadline: Deadline
) -> bool:
    """Whether it may be committed; if it never will, it is condemned."""
    health = generation.spec.health
    passing = guest_health.passing_for(guest, health, plan.now)
    if guest.health.errors:
        # A broken prober says nothing about the guest, so neither commit nor condemn.
        why = f"its health could not be asked for: {guest.health.detail}"
        plan.wait("probe", vm.name, why)
    elif passing is None:
        _not_passing(plan, vm, generation, guest, deadline)
    elif passing >= health.min_healthy_time:
        return True
    else:
        plan.wait(
            "soak", vm.name,
            f"{_on_trial(vm, generation)}: healthy for {passing:.1f}s"
            f" of {health.min_healthy_time:g}s", plan.now.boot + health.min_healthy_time - passing,
        )  # fmt: skip
    return False


def _on_trial(vm: VMContext, generation: Generation) -> str:
    beside = _is_candidate(vm.record, generation) and vm.running is not None
    words = f" beside {vm.running}" if beside else ""
    what = "on trial" if generation.verdict == "trial" else "started again"
    return f"generation {generation.number} {what}{words}"


def _is_candidate(record: VMRecord, generation: Generation) -> bool:
    return record.candidate is not None and record.candidate.generation == generation.number


def _not_passing(
    plan: PlanBuilder, vm: VMContext, generation: Generation, guest: Guest, deadline: Deadline
) -> None:
    health = generation.spec.health
    detail = guest_health.symptom(guest, health)
    unhealthy = guest_health.judge(guest, health, plan.now) == "unhealthy"
    if guest.said.ended and unhealthy:
        probe = guest.health.detail if guest_health.asks_guest(health) else ""
        evidence = Evidence("ended", probe=probe, console=guest.said.console)
        failed(plan, vm, generation, detail, evidence)
    elif unhealthy and guest.health.ever_passed:
        evidence = Evidence("probe-failed", probe=detail)
        failed(plan, vm, generation, f"its health check failed: {detail}", evidence)
    elif _asked_since(plan, guest, health, deadline):
        evidence = Evidence("startup-timeout", probe=detail)
        failed(
            plan, vm, generation,
            f"not healthy within startupDeadline {health.startup_deadline:g}s: {detail}", evidence,
        )  # fmt: skip
    else:
        plan.wait(
            "starting", vm.name, f"{_on_trial(vm, generation)}: {_awaited(guest, health)}",
            _due(guest, health, deadline),
        )  # fmt: skip


def _awaited(guest: Guest, health: HealthPolicy) -> str:
    if guest_health.asks_guest(health):
        return f"waiting for its checks ({guest.health.detail})"
    if guest_health.well_since(guest, health) is None:
        return "no checks: waiting for its init to say that it is up"
    return guest_health.symptom(guest, health)


def _due(guest: Guest, health: HealthPolicy, deadline: Deadline) -> float:
    """When its trial ends by time alone, passed or failed."""
    since = None if guest_health.asks_guest(health) else guest_health.well_since(guest, health)
    return deadline.boot if since is None else min(since, deadline.boot)


def failed(
    plan: PlanBuilder, vm: VMContext, generation: Generation, why: str, evidence: Evidence
) -> None:
    """Condemn what failed its trial, unless its generation was proven before."""
    if generation.verdict == "trial":
        condemn(plan, vm, generation, why, evidence)
    else:
        _give_up(plan, vm, generation, why)


def _give_up(plan: PlanBuilder, vm: VMContext, generation: Generation, why: str) -> None:
    """End the candidate of a restart or rollback: the serving guest is kept, and an event reports it.

    A failed restart is not repeated. A rollback is still desired, and retried after a pause.
    """
    record, beside = vm.record, f"beside generation {vm.running}"
    number = generation.number
    words = f"{vm.name}: a new guest of generation {number} did not come up {beside}: {why}"
    if record.restart is not None and generation.number == vm.running:
        vm.record = replace(record, restart=None)
        words += "; the former one serves on, and the restart is given up"
        plan.event("restart-given-up", words, vm, "warning", number)
    else:
        key = TroubleKey("candidate", vm.name)
        former = plan.trouble(key)
        attempts = (former.attempts if former else 0) + 1
        plan.troubles[key] = BuildTrouble(
            key=str(key),
            title="candidate",
            attempts=attempts,
            error=why,
            definitive=False,
            retry=plan.deadline(doubling(TROUBLE_BACKOFF, attempts)),
        )
        words += "; that one serves on, and the way back is tried again"
        plan.event("candidate-failed", words, vm, "warning", number)


def _asked_since(plan: PlanBuilder, guest: Guest, policy: HealthPolicy, deadline: Deadline) -> bool:
    """Whether the deadline passed, and the guest was checked after it and still did not pass.

    A daemon that was stopped checks again before it condemns.
    """
    if not deadline.passed(plan.now):
        return False
    if not guest_health.asks_guest(policy):
        return True  # its console is read before the first pass
    if guest.health.asked >= deadline.boot:
        return True
    plan.wake_at(plan.now.boot + ASK_AGAIN)
    return False


def commit(plan: PlanBuilder, vm: VMContext, generation: Generation) -> None:
    """Commit a generation that stayed healthy long enough: rollbacks now go back to it."""
    reason = (
        "stayed healthy"
        if guest_health.asks_guest(generation.spec.health)
        else "it is up; it has no checks"
    )
    committed = replace(generation, verdict="committed", verdict_wall=plan.now.wall, reason=reason)
    record = vm.record.with_generation(committed)
    record = replace(
        record, quarantine=None, backoff=None,
        blocked=tuple(b for b in record.blocked if b.digest != generation.digest),
    )  # fmt: skip
    vm.record, dropped = _trim(record, plan.policy.generations_kept, generation.number)
    plan.clear_trouble(TroubleKey("trial", vm.name))
    snapshots.drop_snapshot(plan, vm, "its generation is committed")
    if dropped:
        plan.actions.append(DropGenerations(vm.name, dropped, "older than what is kept"))
    plan.event(
        "generation-committed", f"{vm.name}: generation {generation.number} is healthy",
        vm, generation=generation.number,
    )  # fmt: skip


def _trim(
    record: VMRecord, keep: int, running: GenerationNumber
) -> tuple[VMRecord, tuple[GenerationNumber, ...]]:
    """The generations that are kept: the newest `keep`, and always the last good and the running one."""
    good = record.last_good
    pinned = {running, good.number if good else running}
    old = [g.number for g in record.generations[:-keep] if g.number not in pinned]
    kept = tuple(g for g in record.generations if g.number not in old)
    return replace(record, generations=kept), tuple(old)


def condemn(
    plan: PlanBuilder, vm: VMContext, generation: Generation, why: str, evidence: Evidence
) -> None:
    """Record verdict, block, hold and rollback in one transaction, so that no crash loses a part."""
    now = plan.now.wall
    record = vm.record.with_generation(
        replace(generation, verdict="condemned", verdict_wall=now, reason=why, evidence=evidence)
    )
    key = generation.spec.rollout_key if evidence.kind in OF_CHECKS else Digest("")
    former = next(
        (b for b in record.blocked if (b.digest, b.key) == (generation.digest, key)), None
    )
    block = Blocked(
        digest=generation.digest,
        key=key,
        generation=generation.number,
        reason=why,
        attempts=(former.attempts if former else 0) + 1,
        first_wall=former.first_wall if former else now,
        last_wall=now,
        revision=generation.revision,
    )
    others = [b for b in record.blocked if b is not former]
    record = replace(record, blocked=tuple([*others, block][-BLOCKED_KEPT:]))
    record, dropped = _trim(record, plan.policy.generations_kept, generation.number)
    if dropped:
        plan.actions.append(DropGenerations(vm.name, dropped, "older than what is kept"))
    plan.event(
        "generation-condemned", f"{vm.name}: generation {generation.number} condemned: {why}",
        vm, "error", generation.number,
    )  # fmt: skip
    vm.record = record
    _way_back(plan, vm, generation, why)
    holds.hold_after_failure(plan, vm, generation, why, evidence)


def _way_back(plan: PlanBuilder, vm: VMContext, bad: Generation, why: str) -> None:
    good = vm.record.last_good
    if good is None or _is_candidate(vm.record, bad) or vm.running == good.number:
        return  # nothing to go back to; or it never served, and there is nothing to go back from
    if bad.spec.rollback.mode == "manual":
        command = f"reconciler rollback {vm.name}"
        quarantine(plan, vm, f"{why}; rollback.mode is manual: run `{command}`")
    elif bad.spec.rollback.data_epoch != good.spec.rollback.data_epoch and not snapshots.taken_for(
        vm.record, bad
    ):
        quarantine(
            plan, vm,
            f"{why}; generation {good.number} has another dataEpoch, so going back is a person's choice",
        )  # fmt: skip
    else:
        health, stop = good.spec.health, bad.spec.update.stop_timeout + STOP_GRACE
        seconds = stop + health.startup_deadline + health.min_healthy_time
        rollback = RollbackState(bad.number, good.number, plan.deadline(seconds), why)
        vm.record = replace(vm.record, rollback=rollback)


def _judge_rollback(plan: PlanBuilder, vm: VMContext, generation: Generation) -> None:
    guest, rollback = vm.guest, vm.record.rollback
    if guest is None or rollback is None:
        return
    bad = vm.record.generation(rollback.bad)
    health = generation.spec.health
    passing = guest_health.passing_for(guest, health, plan.now)
    if guest.health.errors:
        why = f"its health could not be asked for: {guest.health.detail}"
        plan.wait("probe", vm.name, why)
    elif passing is not None and passing >= health.min_healthy_time:
        vm.record = context.count_restart(
            replace(vm.record, rollback=None), "rollback", plan.now.wall, rollback.reason
        )
        snapshots.drop_snapshot(plan, vm, "the way back is behind us")
        plan.event(
            "rolled-back",
            f"{vm.name}: back on generation {generation.number} after {rollback.reason}",
            vm, "warning", generation.number, revision=bad.revision if bad else None,
        )  # fmt: skip
    elif passing is None and _asked_since(plan, guest, health, rollback.deadline):
        why = guest_health.symptom(guest, health)
        quarantine(plan, vm, f"rolling back failed: not healthy in time: {why}")
    else:
        until = plan.now.boot + health.min_healthy_time - passing if passing is not None else None
        plan.wait(
            "rollback", vm.name,
            f"going back to generation {generation.number}: {rollback.reason}",
            until if until is not None else rollback.deadline.boot,
        )  # fmt: skip


def quarantine(plan: PlanBuilder, vm: VMContext, why: str) -> None:
    """Quarantine a VM: nothing more happens to it automatically, so it cannot alternate between two failures."""
    digest = vm.spec.digest if vm.spec else vm.record.generations[-1].digest
    vm.record = replace(vm.record, rollback=None, quarantine=Quarantine(why, digest, plan.now.wall))
    plan.event("quarantined", f"{vm.name}: {why}", vm, "error", vm.running)


def _forgive_crashes(plan: PlanBuilder, vm: VMContext, generation: Generation) -> None:
    guest, backoff = vm.guest, vm.record.backoff
    passing = guest_health.passing_for(guest, generation.spec.health, plan.now) if guest else None
    if vm.looping and backoff is not None:
        words = (
            f"{lifecycle.crashes_in_words(backoff, plan.now)}, and not steady yet: {backoff.reason}"
        )
        until = None if passing is None else plan.now.boot + STEADY - passing
        plan.wait("crash-loop", vm.name, words, until)
    if passing is None:
        return
    if passing >= SOAKED_RESET:
        crashes = vm.record.backoff.crashes if vm.record.backoff else 0
        vm.record = replace(vm.record, backoff=None)
        plan.event(
            "guest-recovered",
            f"{vm.name}: generation {generation.number} is steady again, after"
            f" {crashes} crash{'es' if crashes > 1 else ''}",
            vm, generation=generation.number,
        )  # fmt: skip
    else:
        plan.wake_at(plan.now.boot + SOAKED_RESET - passing)
