"""A guest's health, from the running counts of its checks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from reconciler.model.check_trial import BlockedChecks
from reconciler.model.checks import CheckSpec, NetworkCheck, ProcessCheck
from reconciler.model.desired import HealthPolicy, VMSpec, checks_key, rollout_key
from reconciler.model.health import ProbePlan
from reconciler.model.machine import Route, Tap
from reconciler.model.names import GenerationNumber, VMName
from reconciler.model.observed import Guest
from reconciler.model.policy import (
    CRASH_LOOP,
    ENOUGH_UPTIME,
    ERRORS_IN_A_ROW,
    STARTUP_PROBE_PERIOD,
    STEADY,
)
from reconciler.model.record import Generation, VMRecord
from reconciler.now import Now

LOOPBACK = "127.0.0.1"
SHORTEST_TRIAL_PERIOD = 0.5
"""Seconds from one round of changed checks to the next, unless the manifest itself asks more often."""
SILENT_INIT = "its init did not say that it is up"
Judgement = Literal["starting", "healthy", "unhealthy", "unknown"]
"""starting: it may still come. unknown: it could not be asked; nothing follows from that."""


@dataclass(frozen=True, slots=True)
class GuestHealth:
    """The conclusions about a living guest at one moment."""

    judgement: Judgement
    """Whether it may serve."""
    why_restart: str
    """Why it must be restarted, if it is committed; empty: it need not be, whether or not it may serve."""
    looping: bool
    """It crashes again and again, and has not been steady since."""

    @property
    def good(self) -> bool:
        """Whether it may serve, and may be expected to keep serving."""
        return self.judgement == "healthy" and not self.looping


def assess(guest: Guest, policy: HealthPolicy, record: VMRecord, now: Now) -> GuestHealth:
    """Assess a guest by this policy, which may differ from that of its generation."""
    passing = passing_for(guest, policy, now) or 0.0
    looping = is_looping(record) and passing < STEADY
    return GuestHealth(judge(guest, policy, now), why_restart(guest, policy, now), looping)


def is_looping(record: VMRecord) -> bool:
    """Whether guests of a committed generation repeatedly ended or had to be restarted."""
    return record.backoff is not None and record.backoff.crashes >= CRASH_LOOP


def asks_guest(policy: HealthPolicy) -> bool:
    """Whether any check needs an answer from the guest; a living VMM says nothing about it."""
    return any(not isinstance(check, ProcessCheck) for check in policy.checks)


def judge(guest: Guest, policy: HealthPolicy, now: Now) -> Judgement:
    """Whether a guest may serve now.

    By its checks; without checks by its init's announcement, or by its uptime if it cannot announce.
    """
    if not guest.alive:
        return "unhealthy"
    late = _is_late(guest, policy, now)
    if not asks_guest(policy):
        if passing_for(guest, policy, now) is not None:
            return "healthy"
        return "unhealthy" if late or guest.said.ended else "starting"
    health = guest.health
    if health.passing_since is not None:
        return "healthy"
    if health.errors >= ERRORS_IN_A_ROW:
        return "unknown"
    if health.failures >= policy.failure_threshold and (health.ever_passed or late):
        return "unhealthy"
    if health.failures and guest.said.ended and not (health.ever_passed or guest.passed):
        return "unhealthy"
    # Below the threshold a guest that has passed stays healthy: one lost answer is no outage.
    return "healthy" if health.ever_passed else "starting"


def why_restart(guest: Guest, policy: HealthPolicy, now: Now) -> str:
    """Why a committed guest must be restarted, as a text; empty: it need not be.

    A failed readiness check is no reason: the cause may be elsewhere, and a restart would enlarge the
    outage.
    """
    health, said = guest.health, guest.said
    if not guest.alive or judge(guest, policy, now) not in ("unhealthy", "starting"):
        return ""
    asked, late = asks_guest(policy), _is_late(guest, policy, now)
    proved = guest.passed or health.ever_passed
    if said.ended and not (asked and (proved or not health.failures)):
        return f"its application ended: {said.ended}"
    alive = health.liveness
    if alive.failures >= policy.failure_threshold and (alive.ever_passed or guest.passed or late):
        return f"its health check failed: {health.liveness_detail}"
    silent = guest.announces and said.up is None and said.handed_over is None
    return SILENT_INIT if late and silent and not proved else ""


def passing_for(guest: Guest, policy: HealthPolicy, now: Now) -> float | None:
    """Seconds of unbroken health; None while it is not healthy. Any failure starts it over."""
    since = well_since(guest, policy)
    return None if since is None or since > now.boot else now.boot - since


def well_since(guest: Guest, policy: HealthPolicy) -> float | None:
    """The boot-clock time from which it is healthy, perhaps in the future; None: not foreseeable."""
    if asks_guest(policy):
        return guest.health.passing_since
    said = guest.said
    if said.ended:
        return None
    if said.up is not None:
        return said.up
    if said.handed_over is not None:
        return said.handed_over + enough_uptime(policy)
    return None if guest.announces else guest.process.started_boot + enough_uptime(policy)


def enough_uptime(policy: HealthPolicy) -> float:
    """Seconds of uptime after which a guest that cannot announce that it is up counts as up."""
    return min(ENOUGH_UPTIME, policy.startup_deadline / 2)


def symptom(guest: Guest, policy: HealthPolicy) -> str:
    """What is known of a guest that is not healthy, or not yet, as a text."""
    if guest.said.ended and not guest.health.ever_passed:
        return f"its application ended: {guest.said.ended}"
    if asks_guest(policy):
        return guest.health.detail
    if well_since(guest, policy) is None:
        return SILENT_INIT
    seconds = enough_uptime(policy)
    return f"no checks: taken as healthy after {seconds:g}s of uptime, as its init says nothing"


def _is_late(guest: Guest, policy: HealthPolicy, now: Now) -> bool:
    return now.boot >= guest.process.started_boot + policy.startup_deadline


def probe_plan(
    guest: Guest, policy: HealthPolicy, routes: tuple[Route, ...] = (), taps: tuple[Tap, ...] = (),
    *, soaking: bool,
) -> ProbePlan | None:  # fmt: skip
    """The checks to run on this guest, through these routes; None if there are none.

    Checks at a tap's address are bound to its bridge: an address in a manifest must not lead to anything
    else that this host can reach.
    """
    if not policy.checks:
        return None
    period = policy.period
    if not guest.health.ever_passed:
        period = STARTUP_PROBE_PERIOD
    elif soaking:
        period = min(period, 1.0, max(STARTUP_PROBE_PERIOD, policy.min_healthy_time / 5))
    return _plan(policy, (routes, taps), period, guest.process.vm, guest.generation)


def trial_plan(
    guest: Guest, policy: HealthPolicy, routes: tuple[Route, ...] = (), taps: tuple[Tap, ...] = ()
) -> ProbePlan | None:
    """The changed checks to run on a guest beside its present ones, at a moderate rate."""
    if not policy.checks:
        return None
    period = min(policy.period, max(SHORTEST_TRIAL_PERIOD, min(1.0, policy.min_healthy_time / 5)))
    return _plan(policy, (routes, taps), period, guest.process.vm, guest.generation, beside=True)


def effective_checks(present: HealthPolicy, wanted: HealthPolicy) -> HealthPolicy:
    """The part of `wanted` that applies to a running generation: not a shorter startupDeadline.

    Only a boot shows whether a guest meets it, and the next boot may be one after a crash.
    """
    if wanted.startup_deadline >= present.startup_deadline:
        return wanted
    return replace(wanted, startup_deadline=present.startup_deadline)


def has_other_checks(generation: Generation, spec: VMSpec) -> bool:
    """Whether a generation with this spec's digest should be judged by other checks than it has."""
    present = generation.spec.health
    return effective_checks(present, spec.health) != present


def refused_checks(record: VMRecord | None, spec: VMSpec) -> BlockedChecks | None:
    """The refusal of this spec's changed checks, if what runs has its digest; else None."""
    good = record.last_good if record is not None else None
    if record is None or good is None or good.digest != spec.digest:
        return None
    if not has_other_checks(good, spec):
        return None
    wanted = effective_checks(good.spec.health, spec.health)
    return record.checks_blocked(rollout_key(spec.digest, wanted))


def _redirected(checks: tuple[CheckSpec, ...], routes: tuple[Route, ...]) -> tuple[CheckSpec, ...]:
    """The same checks, through the guest's own ports on the host's loopback."""
    others = {route.port: route.target for route in routes if route.protocol == "tcp"}
    return tuple(
        replace(check, port=others[check.port], host=LOOPBACK)
        if isinstance(check, NetworkCheck) and check.port in others
        else check
        for check in checks
    )


def _bound(checks: tuple[CheckSpec, ...], taps: tuple[Tap, ...]) -> tuple[CheckSpec, ...]:
    """The same checks, with those at a tap's address bound to its bridge."""
    bridges = {tap.ip: tap.bridge for tap in taps if tap.address}
    return tuple(
        replace(check, device=bridges[check.host])
        if isinstance(check, NetworkCheck) and check.host in bridges
        else check
        for check in checks
    )


@lru_cache(maxsize=4096)
def _plan(
    policy: HealthPolicy, ways: tuple[tuple[Route, ...], tuple[Tap, ...]], period: float, vm: VMName,
    generation: GenerationNumber, *, beside: bool = False,
) -> ProbePlan:  # fmt: skip
    routes, taps = ways
    checks = _bound(_redirected(policy.checks, routes), taps)
    return ProbePlan(checks, period, vm, generation, checks_key(policy), beside)
