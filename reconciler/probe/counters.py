"""Counts the rounds of checks of one guest. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reconciler.model.health import CheckAnswer, Liveness, ProbeCounts, ProbeResult


def verdict(answers: Sequence[CheckAnswer]) -> ProbeResult:
    """The result of a round: a failure if any check fails, else an error if one could not be asked."""
    results = {answer.result for answer in answers}
    if "failure" in results:
        return "failure"
    return "error" if "error" in results else "success"


def after_round(before: ProbeCounts, answers: Sequence[CheckAnswer], boot: float) -> ProbeCounts:
    """The counts after a round whose answers were complete at boot-clock time `boot`.

    An error says nothing about the guest: it ends neither a run of passing rounds nor one of failing
    rounds. A caller that must know the present state checks `errors` too.
    """
    counted = replace(
        before, rounds=before.rounds + 1, asked=boot, last=tuple(answers),
        liveness=_liveness(before.liveness, answers, boot),
    )  # fmt: skip
    match verdict(answers):
        case "success":
            since = boot if before.passing_since is None else before.passing_since
            well = replace(counted, passing_since=since, ever_passed=True, failures=0, errors=0)
            return replace(well, failing_since=None)
        case "failure":
            since = boot if before.failing_since is None else before.failing_since
            ill = replace(counted, passing_since=None, failures=before.failures + 1, errors=0)
            return replace(ill, failing_since=since)
        case "error":
            return replace(counted, errors=before.errors + 1)


def _liveness(before: Liveness, answers: Sequence[CheckAnswer], boot: float) -> Liveness:
    asked = [answer for answer in answers if answer.purpose == "liveness"]
    match verdict(asked) if asked else "error":
        case "success":
            return Liveness(ever_passed=True)
        case "failure":
            since = boot if before.failing_since is None else before.failing_since
            return replace(before, failures=before.failures + 1, failing_since=since)
        case _:
            return before


def matters(before: ProbeCounts, after: ProbeCounts) -> bool:
    """Whether the planner could decide differently after this round.

    A guest that has never passed fails many times a second while it boots, and only its start-up
    deadline judges it, so only its first failure matters.
    """
    if (before.passing_since is None) != (after.passing_since is None):
        return True
    if after.liveness.ever_passed and before.liveness != after.liveness:
        return True
    if not after.ever_passed:
        return (before.failures == 0) != (after.failures == 0) or (
            (before.errors == 0) != (after.errors == 0) and before.failures == 0
        )
    return (before.failures, before.errors) != (after.failures, after.errors)
