"""Whether a guest is well, from the running counts of its probe."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Literal

from reconciler.model.checktrial import BlockedChecks
from reconciler.model.desired import HealthPolicy, VMSpec, checks_key, rollout_key
from reconciler.model.health import Check, ProbePlan, ProcessCheck
from reconciler.model.machine import Route
from reconciler.model.names import GenerationNumber, VMName
from reconciler.model.observed import Guest
from reconciler.model.record import Generation, VMRecord
from reconciler.now import Now
from reconciler.planning.policy import ERRORS_IN_A_ROW, STARTUP_PROBE_PERIOD

LOOPBACK = "127.0.0.1"
SHORTEST_TRIAL_PERIOD = 0.5
"""Seconds from one round of changed checks to the next, unless the manifest itself asks more often."""
Judgement = Literal["starting", "healthy", "unhealthy", "unknown"]
"""starting: it may still come. unknown: it could not be asked; nothing follows from that."""


def judge(guest: Guest, policy: HealthPolicy, now: Now) -> Judgement:
    """The guest's health now. A guest without checks is healthy while its process lives."""
    if not guest.alive:
        return "unhealthy"
    health = guest.health
    if not policy.checks or health.passing_since is not None:
        return "healthy"
    if health.errors >= ERRORS_IN_A_ROW:
        return "unknown"
    late = now.boot >= guest.process.started_boot + policy.startup_deadline
    if health.failures >= policy.failure_threshold and (health.ever_passed or late):
        return "unhealthy"
    # Below the threshold a guest that has passed keeps its standing: one lost answer is no outage.
    return "healthy" if health.ever_passed else "starting"


def passing_for(guest: Guest, policy: HealthPolicy, now: Now) -> float | None:
    """Seconds of unbroken health; None while it is broken. Any flip starts it anew."""
    if not policy.checks:
        return now.boot - guest.process.started_boot
    since = guest.health.passing_since
    return None if since is None else max(0.0, now.boot - since)


def probe_plan(
    guest: Guest, policy: HealthPolicy, routes: tuple[Route, ...] = (), *, soaking: bool
) -> ProbePlan | None:
    """What to ask this guest from now on, by these routes; None when nothing was asked for."""
    if not policy.checks:
        return None
    period = policy.period
    if not guest.health.ever_passed:
        period = STARTUP_PROBE_PERIOD
    elif soaking:
        period = min(period, 1.0, max(STARTUP_PROBE_PERIOD, policy.min_healthy_time / 5))
    return _plan(policy, routes, period, guest.process.vm, guest.generation)


def trial_plan(
    guest: Guest, policy: HealthPolicy, routes: tuple[Route, ...] = ()
) -> ProbePlan | None:
    """What to ask a guest that runs beside its present checks, never faster than it bears."""
    if not policy.checks:
        return None
    period = min(policy.period, max(SHORTEST_TRIAL_PERIOD, min(1.0, policy.min_healthy_time / 5)))
    return _plan(policy, routes, period, guest.process.vm, guest.generation, beside=True)


def effective_checks(present: HealthPolicy, wanted: HealthPolicy) -> HealthPolicy:
    """What a generation that runs can take of `wanted`: a shorter startupDeadline is of the next one.

    Only a boot shows whether a guest makes it, and the next boot may be one after a crash.
    """
    if wanted.startup_deadline >= present.startup_deadline:
        return wanted
    return replace(wanted, startup_deadline=present.startup_deadline)


def has_other_checks(generation: Generation, spec: VMSpec) -> bool:
    """Whether a generation of this spec's digest is to be judged by other checks than it is."""
    present = generation.spec.health
    return effective_checks(present, spec.health) != present


def refused_checks(record: VMRecord | None, spec: VMSpec) -> BlockedChecks | None:
    """The changed checks of this spec, if what runs has its digest and did not pass them."""
    good = record.last_good if record is not None else None
    if record is None or good is None or good.digest != spec.digest:
        return None
    if not has_other_checks(good, spec):
        return None
    wanted = effective_checks(good.spec.health, spec.health)
    return record.checks_blocked(rollout_key(spec.digest, wanted))


def _redirected(checks: tuple[Check, ...], routes: tuple[Route, ...]) -> tuple[Check, ...]:
    """The same questions through the guest's own ports on this host's loopback."""
    others = {route.port: route.target for route in routes if route.protocol == "tcp"}
    return tuple(
        check
        if isinstance(check, ProcessCheck) or check.port not in others
        else replace(check, port=others[check.port], host=LOOPBACK)
        for check in checks
    )


@lru_cache(maxsize=4096)
def _plan(
    policy: HealthPolicy, routes: tuple[Route, ...], period: float, vm: VMName,
    generation: GenerationNumber, *, beside: bool = False,
) -> ProbePlan:  # fmt: skip
    checks = _redirected(policy.checks, routes)
    return ProbePlan(checks, period, vm, generation, checks_key(policy), beside)
