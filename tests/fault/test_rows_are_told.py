"""The pages about reliability name a test for each row of the fault matrix, and only tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "docs/reliability.md", ROOT / "docs/comparison.md"]
if not all(page.exists() for page in PAGES):
    pytest.skip("no documents beside this code", allow_module_level=True)

ROWS = [*range(1, 39), *range(42, 54), 55, 56, 59]
NAMED_OTHERWISE = {*range(22, 39)} - {25, 26, 28} | {53}
"""Rows whose tests are named after what they show, not after the row."""
TESTS = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_the_page_names_is_there(page: Path) -> None:
    named = set(re.findall(r"`(test_\w+)`", page.read_text(encoding="utf-8")))
    assert len(named) > 15
    assert named - TESTS == set()


def test_every_row_of_the_fault_matrix_has_its_line_with_a_test_named_after_it() -> None:
    lines = re.findall(
        r"^\| (\d+) \|.*?\|(.*?)\|", PAGES[0].read_text(encoding="utf-8"), re.MULTILINE
    )
    assert [int(row) for row, _ in lines] == ROWS
    for row, tests in lines:
        named = "test_" if int(row) in NAMED_OTHERWISE else rf"test_rows?_(\w*_)?{int(row):02}_"
        assert re.search(f"`{named}", tests), row


def test_every_line_of_the_comparison_has_its_test() -> None:
    text = PAGES[1].read_text(encoding="utf-8")
    claims, shown = text.split("## What shows it")
    assert re.findall(r"^\| (\d+) \|", claims, re.MULTILINE) == re.findall(
        r"^\| (\d+) \| `test_", shown, re.MULTILINE
    )
