"""The benchmark's own arithmetic and tables: a wrong percentile would flatter every figure."""

import math

import pytest
from rich.console import Console

from tests.bench.bare import FORWARD
from tests.bench.figures import Figure, amount, median, percentile, spread_of, table_of
from tests.bench.many import rendering


def a_figure(value: float, **given: float) -> Figure:
    target, ratio = given.get("target"), given.get("target_ratio")
    return Figure("plan", value, "ms", 20.0, "by hand", target=target, target_ratio=ratio)


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert percentile(values, 50) == 3.0
    assert percentile(values, 80) == 4.0
    assert percentile(values, 99) == 5.0
    assert percentile(values, 0) == 1.0
    assert percentile([7.0], 99) == 7.0


def test_the_99th_of_a_hundred_leaves_one_above() -> None:
    assert percentile([float(n) for n in range(1, 101)], 99) == 99.0


def test_a_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_the_median_of_an_even_number_lies_between() -> None:
    assert median([4.0, 1.0, 3.0, 2.0]) == 2.5
    assert median([3.0, 1.0, 2.0]) == 2.0


def test_amounts_have_three_digits_that_count() -> None:
    assert amount(1.2345, "s") == "1.23 s"
    assert amount(12.345, "ms") == "12.3 ms"
    assert amount(1234.5, "ms") == "1,234 ms"
    assert amount(math.nan, "") == "-"


def test_a_spread_tells_of_how_many() -> None:
    assert spread_of([3.0, 1.0, 2.0], "s") == "1.00 s / 2.00 s / 3.00 s, n=3"


def test_a_target_is_met_by_the_value_or_by_the_ratio() -> None:
    assert a_figure(50.0, target=50.0).met is True
    assert a_figure(51.0, target=50.0).met is False
    assert a_figure(22.0, target_ratio=1.1).met is True
    assert a_figure(23.0, target_ratio=1.1).met is False
    assert a_figure(23.0).met is None


def test_the_table_names_the_figure_its_target_and_whether_it_was_met() -> None:
    console = Console(width=200, record=True, file=None, quiet=True)
    with console.capture() as captured:
        console.quiet = False
        console.print(table_of([a_figure(30.0, target=50.0), a_figure(30.0, target_ratio=1.1)]))
    first, second = [line for line in captured.get().splitlines() if "plan" in line]
    assert "30.0 ms" in first
    assert "<= 50.0 ms" in first
    assert "met" in first
    assert "20.0 ms: by hand" in first
    assert "1.50" in first
    assert "ratio <= 1.10" in second
    assert "missed" in second


def test_json_has_the_ratio_and_the_verdict() -> None:
    plain = a_figure(30.0, target=50.0).plain()
    assert plain["ratio"] == 1.5
    assert plain["met"] is True
    assert plain["unit"] == "ms"


def test_only_the_forwarded_port_is_moved() -> None:
    word = "user,id=net0,hostfwd=tcp:127.0.0.1:8082-:80"
    assert FORWARD.sub(r"\g<1>9000", word) == "user,id=net0,hostfwd=tcp:127.0.0.1:9000-:80"


def test_the_yardstick_of_a_scrape_writes_the_same_series() -> None:
    text = "# HELP a_total A.\n# TYPE a_total counter\na_total 1.0\n"
    assert rendering(text, times=1) > 0
