"""Counters after rounds, as their documentation says."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from reconciler.model.health import NEVER_ASKED, CheckAnswer, ProbeCounts, ProbeResult
from reconciler.probe.counters import after_round, matters, verdict

pytestmark = pytest.mark.shows(row=42)

RESULTS = st.sampled_from(("success", "failure", "error"))


def answer(result: ProbeResult) -> CheckAnswer:
    return CheckAnswer("http", result, f"it was a {result}", 0.1)


def after(*results: ProbeResult) -> ProbeCounts:
    """One round a result, one second apart."""
    health = NEVER_ASKED
    for boot, result in enumerate(results, 1):
        health = after_round(health, [answer(result)], float(boot))
    return health


@given(st.lists(RESULTS, min_size=1))
def test_a_round_fails_by_one_failure_and_errs_only_without_one(results: list[ProbeResult]) -> None:
    expected = min(results, key=("failure", "error", "success").index)
    assert verdict([answer(result) for result in results]) == expected


def test_the_run_of_passing_rounds_begins_with_its_first() -> None:
    health = after("success", "success", "success")
    assert health.passing_since == 1.0
    assert health.ever_passed
    assert health.rounds == 3


def test_one_failure_ends_the_run_and_the_next_pass_begins_it_anew() -> None:
    assert after("success", "failure").passing_since is None
    assert after("success", "failure").ever_passed
    assert after("success", "failure", "success").passing_since == 3.0


def test_failures_count_in_a_row_and_a_pass_resets_them() -> None:
    assert after("failure", "failure").failures == 2
    assert after("failure", "failure", "success").failures == 0


def test_an_error_says_nothing_about_the_guest() -> None:
    assert after("failure", "error", "failure").failures == 2
    assert after("success", "error").passing_since == 1.0
    assert after("success", "error", "error").errors == 2
    assert after("success", "error", "success").errors == 0
    assert after("success", "error", "failure").errors == 0
    assert not after("error").ever_passed


@given(st.lists(RESULTS))
def test_whatever_comes_the_counters_agree_with_each_other(results: list[ProbeResult]) -> None:
    health = after(*results)
    assert health.rounds == len(results)
    assert health.ever_passed == ("success" in results)
    assert not (health.passing_since is not None and health.failures)
    assert health.failures <= health.rounds
    assert health.errors <= health.rounds


@given(st.lists(RESULTS), RESULTS)
def test_what_a_planner_looks_at_never_changes_unannounced(
    results: list[ProbeResult], last: ProbeResult
) -> None:
    before, now = after(*results), after(*results, last)
    if before.passing_since != now.passing_since or before.ever_passed != now.ever_passed:
        assert matters(before, now)
    if now.ever_passed and before.failures != now.failures:
        assert matters(before, now)


def test_a_guest_that_boots_does_not_wake_the_loop_with_each_refusal() -> None:
    assert matters(NEVER_ASKED, after("failure"))
    assert not matters(after("failure"), after("failure", "failure"))
    assert matters(after("failure", "failure"), after("failure", "failure", "success"))


def test_a_round_like_the_one_before_is_no_news() -> None:
    assert not matters(after("success"), after("success", "success"))
