"""Numbered rows of the documents and the tests that show them: `pytest -m 'shows(law=3)'`."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
if not DOCS.is_dir():
    pytest.skip("no documents beside this code", allow_module_level=True)

SHOWN = {
    "law": ("design.md", ["## Laws"]),
    "comparison": ("comparison.md", ["# Comparison"]),
    "row": ("reliability.md", ["## Fault matrix"]),
    "promise": ("reliability.md", ["## Promises"]),
    "fault": (
        "reliability.md",
        ["## What was found and fixed", "## What users and attackers found"],
    ),
}
"""By the word of `pytest.mark.shows`: the page below docs/ and its sections that number rows."""
MATRIX = {*range(1, 39), *range(42, 54), 55, 56, 59}
"""Rows of the fault matrix that one host can meet."""
WATCHED_OTHERWISE = {("fault", 1), ("fault", 2), ("fault", 20)}
"""Rows without a test of their own: an oracle or a mutant watches them."""


def shown_by_tests() -> set[tuple[str, int]]:
    """Every word and number that a test is marked with."""
    found = set()
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for arguments in re.findall(r"pytest\.mark\.shows\(([^)]*)\)", path.read_text("utf-8")):
            for pair in arguments.split(","):
                word, _, number = pair.strip().partition("=")
                assert word in SHOWN, f"{path}: shows({arguments})"
                found.add((word, int(number)))
    return found


def numbered_rows() -> set[tuple[str, int]]:
    found = set()
    for word, (page, headings) in SHOWN.items():
        text = (DOCS / page).read_text(encoding="utf-8")
        for heading in headings:
            numbers = re.findall(r"^\| (\d+) \|", section(text, heading), re.MULTILINE)
            assert numbers, f"{page} has no rows in {heading!r}"
            found |= {(word, int(number)) for number in numbers}
    return found


def test_every_numbered_row_of_the_documents_is_shown_by_a_test_and_the_other_way_round() -> None:
    assert shown_by_tests() == numbered_rows() - WATCHED_OTHERWISE


def test_no_row_is_left_out() -> None:
    of = {word: {n for w, n in numbered_rows() if w == word} for word in SHOWN}
    assert of.pop("row") == MATRIX
    assert {word: found for word, found in of.items() if found != {*range(1, len(found) + 1)}} == {}


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next one of its level."""
    level = heading.partition(" ")[0]
    below = text.partition(f"\n{heading}\n" if level != "#" else f"{heading}\n")[2]
    return re.split(rf"^{level} ", below, maxsplit=1, flags=re.MULTILINE)[0]
