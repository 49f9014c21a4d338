"""Durations, sizes and shares, at their edges."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic_core import PydanticCustomError

from reconciler.model.quantity import (
    Share,
    format_duration,
    format_size,
    parse_count_or_share,
    parse_duration,
    parse_positive_duration,
    parse_size,
    parse_window_duration,
)


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("90s", 90), ("5m", 300), ("24h", 86_400), ("0s", 0)]
)
def test_durations_are_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.shows(row=35)
@pytest.mark.parametrize(
    "bad",
    ["1d", "-1s", "+1s", "1.5s", ".5s", "NaN", "inf", "s", "5", "5 s", "05s", "25h", "999999999h",
     "1s\n", "9" * 100 + "s", "1S", "1m30s", "\u0661s", "", None, 6, 5.5, True, [], {}],
)  # fmt: skip
def test_what_is_no_duration_is_refused(bad: object) -> None:
    with pytest.raises(PydanticCustomError):
        parse_duration(bad)


@pytest.mark.shows(row=35)
@pytest.mark.parametrize(
    "bad", ["256", 257, "1TiB", "1gib", "0MiB", "-1MiB", "1 GiB", "1MiB\n", "99999999GiB", None]
)
def test_what_is_no_size_is_refused(bad: object) -> None:
    with pytest.raises(PydanticCustomError):
        parse_size(bad)


@pytest.mark.shows(row=35)
@pytest.mark.parametrize("bad", [0, -1, True, "0%", "101%", "25", "2.5%", 1.5, None, 10**9])
def test_what_is_no_share_is_refused(bad: object) -> None:
    with pytest.raises(PydanticCustomError):
        parse_count_or_share(bad)


def test_no_time_at_all_is_allowed_only_where_it_means_something() -> None:
    assert parse_duration("0ms") == 0
    with pytest.raises(PydanticCustomError):
        parse_positive_duration("0ms")


@pytest.mark.parametrize(
    ("text", "parse", "form"),
    [("90s", parse_duration, format_duration), ("1h", parse_duration, format_duration),
     ("0s", parse_duration, format_duration), ("1001ms", parse_duration, format_duration),
     ("3GiB", parse_size, format_size), ("1025MiB", parse_size, format_size)],
)  # fmt: skip
def test_quantities_are_written_as_they_were_read(
    text: str, parse: Callable[[object], float], form: Callable[[float], str]
) -> None:
    assert form(parse(text)) == text


def test_a_window_may_last_a_week() -> None:
    assert parse_window_duration("168h") == 7 * 86_400
    for bad in ("0s", "169h"):
        with pytest.raises(PydanticCustomError):
            parse_window_duration(bad)


def test_a_share_is_never_less_than_one_vm() -> None:
    share = parse_count_or_share("25%")
    assert isinstance(share, Share)
    assert [share.of(n) for n in (0, 1, 3, 4, 7, 8, 100)] == [1, 1, 1, 1, 1, 2, 25]
