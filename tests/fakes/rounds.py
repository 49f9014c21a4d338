"""How the health of a guest goes on with one more round of checks, by the guest's fate."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.health import CheckAnswer, Liveness, ProbeCounts

YES = (CheckAnswer("http", "success", "GET :8080/healthz -> 200", 0.0),)
NO = (CheckAnswer("http", "failure", "GET :8080/healthz -> 503", 0.0),)
BROKEN = (CheckAnswer("http", "error", "GET :8080/healthz: too many open files", 0.0),)


def next_round(former: ProbeCounts, fate: str, now: float, *, live: bool = True) -> ProbeCounts:
    """`live`: there are checks of liveness among those that are asked."""
    after = _next(former, fate, now)
    if not live or fate == "unasked":
        return after
    before = former.liveness
    if after.passing_since is not None or fate == "unready":
        return replace(after, liveness=Liveness(ever_passed=True))
    since = now if before.failing_since is None else before.failing_since
    liveness = replace(before, failures=before.failures + 1, failing_since=since)
    return replace(after, liveness=liveness)


def _next(former: ProbeCounts, fate: str, now: float) -> ProbeCounts:
    if fate == "unasked":
        errors = former.errors + 1
        return replace(former, rounds=former.rounds + 1, asked=now, errors=errors, last=BROKEN)
    good = fate == "good" or (fate in ("sick", "unready") and former.rounds < 1)
    if good:
        return replace(
            former, rounds=former.rounds + 1, asked=now, ever_passed=True, failures=0, errors=0,
            failing_since=None, passing_since=former.passing_since if former.passing_since is not None else now,
            last=YES,
        )  # fmt: skip
    return replace(
        former,
        rounds=former.rounds + 1,
        asked=now,
        passing_since=None,
        failures=former.failures + 1,
        failing_since=now if former.failing_since is None else former.failing_since,
        last=NO,
    )
