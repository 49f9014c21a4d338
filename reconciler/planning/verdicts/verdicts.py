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

from reconciler.model.deadline import Deadline
from reconciler.model.desired import HealthPolicy
from reconciler.model.names import Digest, GenerationNumber
from reconciler.model.observed import Guest
from reconciler.model.plan import DropGenerations, Note
from reconciler.model.policy import SOAKED_RESET, STEADY, TROUBLE_BACKOFF, doubling
from reconciler.model.record import OF_CHECKS, Blocked, BuildTrouble, Evidence, Generation, VMRecord
from reconciler.model.setbacks import Quarantine, Rollback
from reconciler.planning.context import Draft, Standing, count_restart
from reconciler.planning.health import asks_guest, judge, passing_for, symptom, well_since
from reconciler.planning.preflight.snapshots import drop_snapshot, taken_for
from reconciler.planning.verdicts.crash_loop import crashes_in_words
from reconciler.planning.verdicts.holds import hold_after_failure

STOP_GRACE = 20.0
"""Seconds after the power button until SIGKILL has done its work: the ladder's two last rungs."""
ASK_AGAIN = 0.5
"""Seconds until a guest whose deadline passed unasked was asked, as good as surely."""
BLOCKED_KEPT = 20
"""Condemned digests remembered for each VM; the oldest are forgotten first."""


def judge_guest(draft: Draft, standing: Standing, *, paused: bool) -> None:
    """Follow one living guest: commit, condemn, end a rollback, forget old crashes, or wait.

    `paused`: it is suspended, and no verdict is given.
    """
    guest, record = standing.guest, standing.record
    if standing.busy or paused or standing.stopping:
        return
    if guest is None:
        _judge_absence(draft, standing)
        return
    generation = record.generation(guest.generation)
    start = record.start
    if generation is None or start is None or start.instance != guest.instance:
        return
    if generation.verdict == "trial":
        if _passed_trial(draft, standing, generation, guest, start.deadline):
            commit(draft, standing, generation)
    elif record.rollback is not None and generation.number == record.rollback.target:
        _judge_rollback(draft, standing, generation)
    elif record.backoff is not None:
        _forgive_crashes(draft, standing, generation)


def judge_candidate(draft: Draft, standing: Standing, *, paused: bool) -> None:
    """Follow the guest beside the one that serves: it is condemned, or ready to take over."""
    guest, candidate = standing.candidate, standing.record.candidate
    if standing.busy or paused or guest is None or candidate is None or standing.leaving is guest:
        return
    generation = standing.record.generation(candidate.generation)
    if candidate.routes is None or generation is None or generation.verdict == "condemned":
        return
    standing.ready = _passed_trial(draft, standing, generation, guest, candidate.deadline)


def _judge_absence(draft: Draft, standing: Standing) -> None:
    """A way back that cannot even begin has the same deadline."""
    rollback = standing.record.rollback
    if rollback is None:
        return
    if rollback.deadline.passed(draft.now):
        quarantine(draft, standing, f"rolling back failed: not started in time: {rollback.reason}")
    else:
        draft.wake_at(rollback.deadline.boot)


def _passed_trial(
    draft: Draft, standing: Standing, generation: Generation, guest: Guest, deadline: Deadline
) -> bool:
    """Whether it may be committed; where it never will, it is condemned."""
    health = generation.spec.health
    passing = passing_for(guest, health, draft.now)
    if guest.health.errors:
        # A prober that is broken says nothing about the guest: neither commit nor condemn.
        why = f"its health could not be asked for: {guest.health.detail}"
        draft.wait("probe", standing.name, why)
    elif passing is None:
        _not_passing(draft, standing, generation, guest, deadline)
    elif passing >= health.min_healthy_time:
        return True
    else:
        draft.wait(
            "soak", standing.name,
            f"{_on_trial(standing, generation)}: healthy for {passing:.1f}s"
            f" of {health.min_healthy_time:g}s", draft.now.boot + health.min_healthy_time - passing,
        )  # fmt: skip
    return False


def _on_trial(standing: Standing, generation: Generation) -> str:
    beside = _is_candidate(standing.record, generation) and standing.running is not None
    words = f" beside {standing.running}" if beside else ""
    what = "on trial" if generation.verdict == "trial" else "started anew"
    return f"generation {generation.number} {what}{words}"


def _is_candidate(record: VMRecord, generation: Generation) -> bool:
    return record.candidate is not None and record.candidate.generation == generation.number


def _not_passing(
    draft: Draft, standing: Standing, generation: Generation, guest: Guest, deadline: Deadline
) -> None:
    health = generation.spec.health
    detail = symptom(guest, health)
    if guest.said.ended and judge(guest, health, draft.now) == "unhealthy":
        probe = guest.health.detail if asks_guest(health) else ""
        evidence = Evidence("ended", probe=probe, console=guest.said.console)
        failed(draft, standing, generation, detail, evidence)
    elif judge(guest, health, draft.now) == "unhealthy" and guest.health.ever_passed:
        evidence = Evidence("probe-failed", probe=detail)
        failed(draft, standing, generation, f"its health check failed: {detail}", evidence)
    elif _asked_since(draft, guest, health, deadline):
        evidence = Evidence("startup-timeout", probe=detail)
        failed(
            draft, standing, generation,
            f"not healthy within startupDeadline {health.startup_deadline:g}s: {detail}", evidence,
        )  # fmt: skip
    else:
        draft.wait(
            "starting", standing.name, f"{_on_trial(standing, generation)}: {_awaited(guest, health)}",
            _due(guest, health, deadline),
        )  # fmt: skip


def _awaited(guest: Guest, health: HealthPolicy) -> str:
    if asks_guest(health):
        return f"waiting for its checks ({guest.health.detail})"
    if well_since(guest, health) is None:
        return "no checks: waiting for its init to say that it is up"
    return symptom(guest, health)


def _due(guest: Guest, health: HealthPolicy, deadline: Deadline) -> float:
    """When it passes by time alone, or else fails."""
    since = None if asks_guest(health) else well_since(guest, health)
    return deadline.boot if since is None else min(since, deadline.boot)


def failed(
    draft: Draft, standing: Standing, generation: Generation, why: str, evidence: Evidence
) -> None:
    """A guest on its trial: what it was made of is condemned, unless that was proven before."""
    if generation.verdict == "trial":
        condemn(draft, standing, generation, why, evidence)
    else:
        _give_up(draft, standing, generation, why)


def _give_up(draft: Draft, standing: Standing, generation: Generation, why: str) -> None:
    """The candidate of a restart or of a way back: who serves serves on, and a person is told.

    A restart was asked for once, and failed. A way back is still wanted, and tried again after a pause.
    """
    record, beside = standing.record, f"beside generation {standing.running}"
    number = generation.number
    words = f"{standing.name}: a new guest of generation {number} did not come up {beside}: {why}"
    if record.restart is not None and generation.number == standing.running:
        standing.record = replace(record, restart=None)
        words += "; the former one serves on, and the restart is given up"
        draft.event("restart-given-up", words, standing, "warning", number)
    else:
        key = f"candidate/{standing.name}"
        former = draft.trouble(key)
        attempts = (former.attempts if former else 0) + 1
        draft.troubles[key] = BuildTrouble(
            key=key,
            title="candidate",
            attempts=attempts,
            error=why,
            definitive=False,
            retry=draft.deadline(doubling(TROUBLE_BACKOFF, attempts)),
        )
        words += "; that one serves on, and the way back is tried again"
        draft.event("candidate-failed", words, standing, "warning", number)


def _asked_since(draft: Draft, guest: Guest, policy: HealthPolicy, deadline: Deadline) -> bool:
    """Whether the deadline passed and the guest was asked after it, and still did not pass.

    A daemon that was away or stood still looks before it condemns.
    """
    if not deadline.passed(draft.now):
        return False
    if not asks_guest(policy):
        return True  # its console is read before the first pass
    if guest.health.asked >= deadline.boot:
        return True
    draft.wake_at(draft.now.boot + ASK_AGAIN)
    return False


def commit(draft: Draft, standing: Standing, generation: Generation) -> None:
    """It stayed healthy long enough: from now on it is what a rollback goes back to."""
    reason = (
        "stayed healthy" if asks_guest(generation.spec.health) else "it is up; it has no checks"
    )
    committed = replace(generation, verdict="committed", verdict_wall=draft.now.wall, reason=reason)
    record = standing.record.with_generation(committed)
    record = replace(
        record, quarantine=None, backoff=None,
        blocked=tuple(b for b in record.blocked if b.digest != generation.digest),
    )  # fmt: skip
    standing.record, dropped = _trim(record, draft.policy.generations_kept, generation.number)
    draft.clear_trouble(f"trial/{standing.name}")
    drop_snapshot(draft, standing, "its generation is committed")
    draft.actions.append(
        Note("commit", standing.name, f"generation {generation.number} is healthy")
    )
    if dropped:
        draft.actions.append(DropGenerations(standing.name, dropped, "older than what is kept"))
    draft.event(
        "generation-committed", f"{standing.name}: generation {generation.number} is healthy",
        standing, generation=generation.number,
    )  # fmt: skip


def _trim(
    record: VMRecord, keep: int, running: GenerationNumber
) -> tuple[VMRecord, tuple[GenerationNumber, ...]]:
    """The newest `keep` generations stay, and always the last good and the running one."""
    good = record.last_good
    pinned = {running, good.number if good else running}
    old = [g.number for g in record.generations[:-keep] if g.number not in pinned]
    kept = tuple(g for g in record.generations if g.number not in old)
    return replace(record, generations=kept), tuple(old)


def condemn(
    draft: Draft, standing: Standing, generation: Generation, why: str, evidence: Evidence
) -> None:
    """The verdict, the block, the hold and the way back: one transaction, or a crash forgets some."""
    now = draft.now.wall
    record = standing.record.with_generation(
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
    record, dropped = _trim(record, draft.policy.generations_kept, generation.number)
    if dropped:
        draft.actions.append(DropGenerations(standing.name, dropped, "older than what is kept"))
    draft.actions.append(Note("condemn", standing.name, why))
    draft.event(
        "generation-condemned", f"{standing.name}: generation {generation.number} condemned: {why}",
        standing, "error", generation.number,
    )  # fmt: skip
    standing.record = record
    _way_back(draft, standing, generation, why)
    hold_after_failure(draft, standing, generation, why, evidence)


def _way_back(draft: Draft, standing: Standing, bad: Generation, why: str) -> None:
    good = standing.record.last_good
    if good is None or _is_candidate(standing.record, bad) or standing.running == good.number:
        return  # nothing to go back to; or it never served, and there is nothing to go back from
    if bad.spec.rollback.mode == "manual":
        command = f"reconciler rollback {standing.name}"
        quarantine(draft, standing, f"{why}; rollback.mode is manual: run `{command}`")
    elif bad.spec.rollback.data_epoch != good.spec.rollback.data_epoch and not taken_for(
        standing.record, bad
    ):
        quarantine(
            draft, standing,
            f"{why}; generation {good.number} has another dataEpoch, so going back is a person's choice",
        )  # fmt: skip
    else:
        health, stop = good.spec.health, bad.spec.update.stop_timeout + STOP_GRACE
        seconds = stop + health.startup_deadline + health.min_healthy_time
        rollback = Rollback(bad.number, good.number, draft.deadline(seconds), why)
        standing.record = replace(standing.record, rollback=rollback)


def _judge_rollback(draft: Draft, standing: Standing, generation: Generation) -> None:
    guest, rollback = standing.guest, standing.record.rollback
    if guest is None or rollback is None:
        return
    bad = standing.record.generation(rollback.bad)
    health = generation.spec.health
    passing = passing_for(guest, health, draft.now)
    if guest.health.errors:
        why = f"its health could not be asked for: {guest.health.detail}"
        draft.wait("probe", standing.name, why)
    elif passing is not None and passing >= health.min_healthy_time:
        standing.record = count_restart(
            replace(standing.record, rollback=None), "rollback", draft.now.wall, rollback.reason
        )
        drop_snapshot(draft, standing, "the way back is behind us")
        draft.actions.append(Note("rolled-back", standing.name, rollback.reason))
        draft.event(
            "rolled-back",
            f"{standing.name}: back on generation {generation.number} after {rollback.reason}",
            standing, "warning", generation.number, revision=bad.revision if bad else None,
        )  # fmt: skip
    elif passing is None and _asked_since(draft, guest, health, rollback.deadline):
        why = symptom(guest, health)
        quarantine(draft, standing, f"rolling back failed: not healthy in time: {why}")
    else:
        until = draft.now.boot + health.min_healthy_time - passing if passing is not None else None
        draft.wait(
            "rollback", standing.name,
            f"going back to generation {generation.number}: {rollback.reason}",
            until if until is not None else rollback.deadline.boot,
        )  # fmt: skip


def quarantine(draft: Draft, standing: Standing, why: str) -> None:
    """Nothing more happens to this VM by itself: no ping-pong."""
    digest = standing.spec.digest if standing.spec else standing.record.generations[-1].digest
    standing.record = replace(
        standing.record, rollback=None, quarantine=Quarantine(why, digest, draft.now.wall)
    )
    draft.actions.append(Note("quarantine", standing.name, why))
    draft.event("quarantined", f"{standing.name}: {why}", standing, "error", standing.running)


def _forgive_crashes(draft: Draft, standing: Standing, generation: Generation) -> None:
    guest, backoff = standing.guest, standing.record.backoff
    passing = passing_for(guest, generation.spec.health, draft.now) if guest else None
    if standing.looping and backoff is not None:
        words = f"{crashes_in_words(backoff, draft.now)}, and not steady yet: {backoff.reason}"
        until = None if passing is None else draft.now.boot + STEADY - passing
        draft.wait("crash-loop", standing.name, words, until)
    if passing is None:
        return
    if passing >= SOAKED_RESET:
        crashes = standing.record.backoff.crashes if standing.record.backoff else 0
        standing.record = replace(standing.record, backoff=None)
        draft.event(
            "guest-recovered",
            f"{standing.name}: generation {generation.number} is steady again, after"
            f" {crashes} crash{'es' if crashes > 1 else ''}",
            standing, generation=generation.number,
        )  # fmt: skip
    else:
        draft.wake_at(draft.now.boot + SOAKED_RESET - passing)
