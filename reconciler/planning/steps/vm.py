"""One VM's way to its target: bring it up, replace what runs, or keep it well."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.desired import HealthPolicy
from reconciler.model.observed import Guest
from reconciler.model.record import Generation, StopCause
from reconciler.planning.context import Draft, Standing
from reconciler.planning.diff import differences
from reconciler.planning.health import symptom
from reconciler.planning.intake.outcomes import crashed, note_illness
from reconciler.planning.preflight.images import Needs
from reconciler.planning.preflight.preflight import (
    claim_memory,
    images_ready,
    missing_images,
    preflight,
    ready,
)
from reconciler.planning.rollout.budget import Budget
from reconciler.planning.rollout.bursts import is_calm
from reconciler.planning.rollout.gates import at_stake, may_begin
from reconciler.planning.rollout.targets import Target, choose, fallback
from reconciler.planning.steps import check_trial as checktrial
from reconciler.planning.steps.actions import create, in_trouble, start, stop, write
from reconciler.planning.steps.handover import applies, begin, replace_anew, tend
from reconciler.planning.steps.rename import make_way, move_folder


def move_one(draft: Draft, standing: Standing, budget: Budget, needs: Needs) -> None:
    target = choose(draft, standing)
    good = standing.record.last_good
    for spec in (target.wanted, good.spec if good else None):
        if spec is not None:
            needs.add(standing.name, spec)
    _explain(draft, standing, target)
    if standing.acted:
        return
    if tend(draft, standing, target):
        return
    if standing.candidate is not None:
        target = _as_it_is(standing)  # the candidate is seen to: whoever serves, serves on
    begun = standing.record.stop
    if standing.guest is None:
        _without_guest(draft, standing, target)
    elif begun is not None and begun.instance == standing.guest.instance:
        # The guest may have been told already: a stop that was begun is carried through.
        stop(draft, standing, begun.cause, f"carrying on: {begun.cause}")
    else:
        _with_guest(draft, standing, target, budget)
        if not standing.acted:
            _repair(draft, standing, budget)  # what runs must be well, whatever else it waits for
        if not standing.acted:
            checktrial.begin(draft, standing)


def _without_guest(draft: Draft, standing: Standing, target: Target) -> None:
    if (why := draft.unfounded.get(standing.name)) is not None:
        draft.wait("moved-from", standing.name, why)
    elif standing.successor is None:
        _bring_up(draft, standing, target)
    elif not move_folder(draft, standing):
        # It cannot move yet, and serves where it is.
        _bring_up(draft, standing, Target(standing.record.last_good))


def _with_guest(draft: Draft, standing: Standing, target: Target, budget: Budget) -> None:
    settled = target.wanted is not None and target.kind not in ("rollback", "quarantine")
    if standing.successor is not None and settled:
        make_way(draft, standing, target, budget)
    elif _must_change(standing, target):
        _replace(draft, standing, target, budget)
    else:
        _keep(draft, standing, target, budget)


def _as_it_is(standing: Standing) -> Target:
    running = standing.record.generation(standing.running) if standing.running is not None else None
    return Target(running or standing.record.last_good)


def _must_change(standing: Standing, target: Target) -> bool:
    if target.generation is None:
        return target.spec is not None
    return target.generation.number != standing.running


def _explain(draft: Draft, standing: Standing, target: Target) -> None:
    """Why the desired digest is not the target, and what the next generation changes."""
    told = target.kind == "rollback" and standing.guest is not None  # by `verdicts`, with its clock
    if target.kind is not None and not told:
        draft.wait(target.kind, standing.name, target.why)
    good = standing.record.last_good
    if good is not None and target.wanted is not None and target.wanted.digest != good.digest:
        draft.differences[standing.name] = differences(good.spec, target.wanted)


def _keep(draft: Draft, standing: Standing, target: Target, budget: Budget) -> None:
    """The right generation runs: do what a person asked."""
    guest, record = standing.guest, standing.record
    if guest is None:
        return
    if target.generation is None:
        running = record.generation(guest.generation)
        if target.kind == "blocked" and running is not None and running.verdict == "condemned":
            stop(draft, standing, "condemned", running.reason)  # and there is no way back
        return
    if record.restart is None:
        return
    if record.restart != guest.instance:
        standing.record = replace(record, restart=None)
    elif record.rollback is not None:
        return  # the way back ends first, within its deadline
    elif replace_anew(draft, standing, target.generation):
        pass
    elif (standing.down or ready(draft, standing, target.generation.spec)) and budget.take(
        standing
    ):
        stop(draft, standing, "requested", "a person asked for a restart")


def _repair(draft: Draft, standing: Standing, budget: Budget) -> None:
    """A committed guest that turned bad is stopped, to be started again with growing pauses."""
    guest, record = standing.guest, standing.record
    running = record.generation(guest.generation) if guest else None
    if guest is None or running is None or running.verdict != "committed":
        return
    if record.rollback is not None:
        return  # going back has a deadline of its own, in `verdicts`
    if not standing.ailing:
        _await_readiness(draft, standing, guest, running.spec.health)
        return
    if running.spec.restart.policy == "never" and guest.said.ended:
        draft.wait("ended", standing.name, f"{standing.ailing}; restart.policy is never")
        return
    if record.quarantine is not None or in_trouble(draft, standing, "stop"):
        return
    if checktrial.spared(draft, standing) or not budget.repairs.take(standing):
        return
    why = standing.ailing
    crashed(draft, standing, why, ill=True)
    stop(draft, standing, "unhealthy", why)


def _await_readiness(draft: Draft, standing: Standing, guest: Guest, policy: HealthPolicy) -> None:
    """It lives, and what it lacks may be elsewhere: a restart would help nobody."""
    if standing.judgement == "unhealthy":
        why = f"not ready: {symptom(guest, policy)}; no restart follows from that"
        draft.wait("readiness", standing.name, why)
    elif standing.judgement == "starting" and not guest.passed:
        why = f"started again: {symptom(guest, policy)}"
        due = guest.process.started_boot + policy.startup_deadline
        draft.wait("starting", standing.name, why, due)


def _replace(draft: Draft, standing: Standing, target: Target, budget: Budget) -> None:
    """Another generation must run: prepare all of it, ask, and only then stop what runs."""
    spec, record = target.wanted, standing.record
    if spec is None:
        return
    if record.rollback is not None:
        stop(draft, standing, "condemned", record.rollback.reason)  # never waits for anything
        return
    if not ready(draft, standing, spec):
        return
    fresh = target.generation is None or target.generation.verdict == "trial"
    gated = fresh and target.kind is None
    if gated and not may_begin(draft, standing):
        return
    if target.generation is not None and fresh and in_trouble(draft, standing, "trial"):
        return
    if applies(standing, spec) and begin(draft, standing, target, spec):
        return
    calm = not gated or is_calm(draft, standing)
    if not (calm and preflight(draft, standing, spec) and budget.take(standing)):
        return
    claim_memory(draft, standing, spec)
    if fresh and record.last_good is not None:
        at_stake(draft).add(standing.name)
    if target.generation is None:
        create(draft, standing, spec)
        return
    if any(in_trouble(draft, standing, kind) for kind in ("create", "stop", "snapshot")):
        return
    if draft.trouble(f"create/{standing.name}") is not None:
        # Its folder could not be written: nothing is stopped for it before that is done.
        write(draft, standing, target.generation)
        return
    _give_way(draft, standing, target.generation, gated=gated)


def _give_way(draft: Draft, standing: Standing, newer: Generation, *, gated: bool) -> None:
    if gated:
        note_illness(draft, standing)
    running = standing.record.generation(standing.running) if standing.running is not None else None
    overtaken = running is not None and running.verdict == "trial"
    cause: StopCause = "overtaken" if overtaken else "update"
    stop(draft, standing, cause, f"generation {newer.number} is ready")


def _bring_up(draft: Draft, standing: Standing, target: Target) -> None:
    """Nothing runs: start the target, or the last good generation while the target may not start."""
    record, now = standing.record, draft.now
    spec = target.wanted
    back = fallback(record, target)
    if target.kind == "quarantine" or (spec is None and back is None):
        return
    fresh = target.generation is None or target.generation.verdict == "trial"
    rebooted = record.start is not None and record.start.deadline.boot_id != now.boot_id
    allowed = spec is not None and images_ready(draft, spec) and not (rebooted and fresh and back)
    if allowed and fresh:
        allowed = may_begin(draft, standing) and not any(
            in_trouble(draft, standing, kind) for kind in ("snapshot", "trial")
        )
    if not allowed and back is not None and images_ready(draft, back.spec):
        start(draft, standing, back)
    elif not allowed:
        if spec is not None and not images_ready(draft, spec):
            draft.wait(
                "image", standing.name, f"{', '.join(missing_images(draft, spec))} not built yet"
            )
    elif target.generation is not None:
        start(draft, standing, target.generation)
        if back is not None and fresh and not standing.acted and _host_lacks(draft, standing):
            start(draft, standing, back)  # the last good one waits for no reserve: serve meanwhile
    elif spec is not None and preflight(draft, standing, spec):
        create(draft, standing, spec)


def _host_lacks(draft: Draft, standing: Standing) -> bool:
    """Whether what stands before its start is the host's, and came up since its former guest was stopped."""
    lacking = ("memory", "disk", "port", "network")
    return any(w.subject == standing.name and w.kind in lacking for w in draft.waits)
