"""How the health of a guest goes on with one more round of checks, by the guest's fate."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.health import Health


def next_round(former: Health, fate: str, now: float) -> Health:
    if fate == "unasked":
        return replace(former, rounds=former.rounds + 1, asked=now, errors=former.errors + 1)
    good = fate == "good" or (fate == "sick" and former.rounds < 1)
    if good:
        return replace(
            former, rounds=former.rounds + 1, asked=now, ever_passed=True, failures=0, errors=0,
            failing_since=None, passing_since=former.passing_since if former.passing_since is not None else now,
        )  # fmt: skip
    return replace(
        former,
        rounds=former.rounds + 1,
        asked=now,
        passing_since=None,
        failures=former.failures + 1,
        failing_since=now if former.failing_since is None else former.failing_since,
    )
