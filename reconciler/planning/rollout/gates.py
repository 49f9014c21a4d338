"""What a VM waits for before it may take its new generation: order, canaries, people, the clock."""

from __future__ import annotations

from collections import Counter

from reconciler.model.desired import GroupSpec, HealthPolicy
from reconciler.model.names import GroupName, VMName
from reconciler.planning.context import Draft, Standing
from reconciler.planning.health import has_other_checks, passing_for
from reconciler.planning.rollout.windows import opening

ROLLBACKS_COUNT = 3600.0
"""Seconds for which a failure counts towards the host's breaker."""


def may_begin(draft: Draft, standing: Standing, checks: HealthPolicy | None = None) -> bool:
    """Whether nothing stands before this VM's next generation; each refusal becomes a wait.

    `checks`: before a trial of these, which are to be those of the generation that runs.
    """
    if standing.spec is None:
        return True
    if not _dependencies(draft, standing) or not _breaker(draft, standing):
        return False
    if not standing.spec.group or draft.desired is None:
        return True
    if _served_before(standing, checks):
        return True  # a way back waits for no canary, person or window
    group = draft.desired.group(standing.spec.group)
    return (
        _canaries(draft, standing, group, checks)
        and _approved(draft, standing, group, digest_alone=checks is None)
        and _window(draft, standing, group)
    )


def _served_before(standing: Standing, checks: HealthPolicy | None) -> bool:
    """Whether this digest served here before, judged by these very checks."""
    spec, good = standing.spec, standing.record.last_good
    if checks is not None:
        return good is not None and good.checks is not None and good.checks.before == checks
    return spec is not None and any(
        generation.verdict == "committed"
        and generation.digest == spec.digest
        and not has_other_checks(generation, spec)
        for generation in standing.record.generations
    )


def _broken(standing: Standing) -> bool:
    """Down, and what it has to go back to does not help: only something new can repair it."""
    record = standing.record
    hopeless = record.last_good is None or record.backoff is not None
    # A guest that was not ready may have been stopped for what repairs it: that must still pass then.
    ill = standing.judgement == "unhealthy" or (
        standing.guest is None and record.unready is not None
    )
    return standing.down and (hopeless or ill)


def _only_unready(standing: Standing) -> bool:
    """It lives, was proven, and must not be restarted: what it lacks may be elsewhere, and come back.

    Many are so at once, as when what they all need is updated. To give a new generation to all of them
    past their canary would make of that short outage as long a one as the generation is bad.
    """
    guest, record = standing.guest, standing.record
    if (
        guest is None
        or standing.ailing
        or record.rollback is not None
        or record.backoff is not None
    ):
        return False
    running = record.generation(guest.generation)
    return running is not None and running.verdict == "committed"


def _goes_before_canaries(draft: Draft, standing: Standing, group: GroupSpec) -> bool:
    """Whether a canary serves and cannot be stopped since members like this one use up the budget.

    Then these go first, as many at once as the budget would let go.
    """
    if draft.once("unavailable", _unavailable)[group.name] < group.max_unavailable:
        return False
    canaries = [c for name in group.canary if (c := draft.desired_as(name)) is not None]
    if not any(canary.available and not canary.synced for canary in canaries):
        return False
    others = [
        s for s in map(draft.standings.get, at_stake(draft)) if s is not None and s is not standing
    ]
    return sum(s.group == group.name for s in others) < group.max_unavailable


def _unavailable(draft: Draft) -> Counter[GroupName]:
    return Counter(s.group for s in draft.standings.values() if not s.available)


def _dependencies(draft: Draft, standing: Standing) -> bool:
    for name in standing.spec.update.after if standing.spec else ():
        other = draft.desired_as(name)
        if other is None or not _is_done(draft, other):
            why = f"comes after {name}, which is not yet healthy at its desired generation"
            draft.wait("dependency", standing.name, why)
            return False
    return True


def _is_done(draft: Draft, other: Standing) -> bool:
    """It serves what is desired, or did so to its own end, as a migration does."""
    spec = other.spec
    return other.synced or (
        spec is not None
        and other.successor is None
        and other.record.ended_well(spec, draft.now.boot_id)
    )


def _breaker(draft: Draft, standing: Standing) -> bool:
    """Many failures at once mean that the host is ill, not the guests: nothing healthy is changed.

    What is under way may fail, too: at no time is more at stake than may fail within an hour.
    """
    if _broken(standing) or standing.name in at_stake(draft):
        return True
    recent, under_way = draft.recent_failures(ROLLBACKS_COUNT), len(at_stake(draft))
    if len(recent) + under_way < draft.policy.max_rollbacks_per_hour:
        return True
    if under_way:
        why = f"{under_way} new generations are under way and {len(recent)} failed within the hour"
        limit = "(policy.max_rollbacks_per_hour): it is this VM's turn when one of them is healthy"
        draft.wait("breaker", standing.name, f"{why} {limit}")
        return False
    left = min(recent) + ROLLBACKS_COUNT - draft.now.wall
    draft.wait(
        "breaker", standing.name,
        f"{len(recent)} generations failed within the hour (policy.max_rollbacks_per_hour): nothing"
        " that serves is changed until that has passed", draft.now.boot + max(left, 1.0),
    )  # fmt: skip
    return False


def at_stake(draft: Draft) -> set[VMName]:
    """VMs that have something to go back to, and whose new generation is under way."""
    if draft.at_stake is None:
        draft.at_stake = {s.name for s in draft.standings.values() if _under_way(s)}
    return draft.at_stake


def _under_way(standing: Standing) -> bool:
    record = standing.record
    newest = record.generations[-1] if record.generations else None
    if record.last_good is None or newest is None or newest.verdict != "trial":
        return False
    left = standing.guest is None or standing.stopping or record.candidate is not None
    return record.quarantine is None and (left or standing.running == newest.number)


def _canaries(
    draft: Draft, standing: Standing, group: GroupSpec, checks: HealthPolicy | None
) -> bool:
    # The canary itself may wait for the budget that this one uses up: a fix must come through.
    if standing.called in group.canary or (_broken(standing) and not _only_unready(standing)):
        return True
    # Changed checks stop nobody, so that no canary waits for a budget to try them.
    if checks is None and _broken(standing) and _goes_before_canaries(draft, standing, group):
        return True
    for name in group.canary:
        other = draft.desired_as(name)
        if other is None:
            continue
        if not other.synced:
            draft.wait("dependency", standing.name, f"canary {name} goes first")
            return False
        left = _soak_left(draft, other, group.canary_soak)
        if left > 0:
            why = f"canary {name} soaks for {left:.0f}s more"
            draft.wait("soak", standing.name, why, draft.now.boot + left)
            return False
    return True


def _soak_left(draft: Draft, canary: Standing, soak: float) -> float:
    good = canary.record.last_good
    if soak <= 0 or canary.guest is None or good is None:
        return 0.0
    passing = passing_for(canary.guest, good.spec.health, draft.now)
    return soak - (passing or 0.0)


def _approved(draft: Draft, standing: Standing, group: GroupSpec, *, digest_alone: bool) -> bool:
    spec, first = standing.spec, standing.record.last_good is None
    if group.approval == "auto" or first or spec is None or standing.called in group.canary:
        return True
    approved = draft.group_record(group.name).approved
    if (standing.called, spec.rollout_key) in approved:
        return True
    if digest_alone and (standing.called, spec.digest) in approved:  # by an older version
        return True
    why = f"waits for a person: `reconciler promote {group.name}`"
    draft.wait("approval", standing.name, why)
    return False


def _window(draft: Draft, standing: Standing, group: GroupSpec) -> bool:
    """Repairing what is down does not wait for a window."""
    if not group.windows or _broken(standing):
        return True
    now = opening(group.windows, draft.now.wall)
    if now.open:
        return True
    until = None
    if now.until_wall is not None:
        until = draft.now.boot + max(1.0, now.until_wall - draft.now.wall)
    draft.wait("window", standing.name, now.why, until)
    return False
