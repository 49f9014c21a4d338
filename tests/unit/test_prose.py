"""Markdown keeps the width that .editorconfig states, and says what it says in common words."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house import STILTED

ROOT = Path(__file__).resolve().parents[2]
if not (ROOT / "docs").is_dir():
    pytest.skip("no documents beside this code", allow_module_level=True)

PAGES = [
    path
    for path in sorted(ROOT.rglob("*.md"))
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
]


def prose(page: Path) -> Iterator[tuple[int, str]]:
    """Lines that can be wrapped: no table, heading, picture, code or entry of a list of pages."""
    code = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        code ^= line.lstrip().startswith("```")
        if (
            not code
            and not line.lstrip().startswith(("|", "#", "![", "```", "- [00"))
            and " " in line
        ):
            yield number, line


def test_lines_of_prose_keep_the_width_that_editorconfig_states() -> None:
    settings = (ROOT / ".editorconfig").read_text(encoding="utf-8").partition("[*.md]")[2]
    most = re.search(r"max_line_length = (\d+)", settings)
    assert most
    long = [
        f"{page.relative_to(ROOT)}:{number}"
        for page in PAGES
        for number, line in prose(page)
        if len(line) > int(most[1])
    ]
    assert long == []


def test_pages_use_the_common_word() -> None:
    stilted = {
        f"{page.relative_to(ROOT)}:{number}: {word}"
        for page in PAGES
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
        for word in STILTED.findall(line)
    }
    assert stilted == set()
