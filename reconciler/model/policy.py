"""The host's policy as the planner needs it, and constants of its decisions."""

from __future__ import annotations

from dataclasses import dataclass

SOAKED_RESET = 600.0
"""Seconds of health after which past crashes are forgotten (the kubelet's habit)."""
CRASH_BACKOFF = (1.0, 300.0)
"""First and longest pause, in seconds, before a crashed guest is started again; doubles between."""
TROUBLE_BACKOFF = (5.0, 180.0)
"""The same for a build or an operation that failed for reasons outside the guest."""
LOOKUP_BACKOFF = (5.0, 1800.0)
"""The same for the lookup of a tag, for which nothing waits but at first."""
TRIAL_BACKOFF = (30.0, 600.0)
"""The same for the start of a generation on trial, for which a guest that serves is stopped each time."""
HANDOVER_BACKOFF = (1.0, 30.0)
"""The same for ports that could not be moved; short, because a port must not stay without a guest."""
BY_THE_FRONT = "what the front is needed for"
"""Title of troubles of the proxy: no guest is stopped for them, however often they repeat."""
ERRORS_IN_A_ROW = 4
"""Probe errors after which nothing is concluded from silence (Argo Rollouts' consecutiveErrorLimit)."""
STARTUP_PROBE_PERIOD = 0.1
"""Seconds between rounds for a guest that has not passed yet."""
ENOUGH_UPTIME = 30.0
"""Seconds after which a guest without checks, whose init cannot announce that it is up, counts as up."""
CRASH_LOOP = 3
"""Crashes in a row that count as a crash loop."""
STEADY = 60.0
"""Seconds of health after which a VM in a crash loop counts as healthy again."""


@dataclass(frozen=True, slots=True)
class Policy:
    """From the host's config; a repository cannot change it."""

    state_dir: str
    prune: bool = False
    max_delete: int = 1
    memory_reserve_mib: int = 512
    disk_reserve_mib: int = 1024
    store_max_mib: int = 0
    """MiB up to which images are kept that nothing names; 0: none are."""
    max_builds: int = 2
    generations_kept: int = 5
    max_rollbacks_per_hour: int = 10
    max_repairs: int = 4
    bridges: tuple[str, ...] = ()
    """Bridges into which taps may be plugged."""


def doubling(bounds: tuple[float, float], attempts: int) -> float:
    """Seconds to pause after the nth failure in a row, n from 1; doubles between the bounds."""
    first, longest = bounds
    return min(longest, first * 2.0 ** min(attempts - 1, 32))
