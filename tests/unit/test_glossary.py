"""The glossary names things that are in the code, and words that it retired are no names any more."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.model.checks import CHECK_KINDS

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "reconciler"
GLOSSARY = ROOT / "docs/glossary.md"
if not GLOSSARY.is_file():
    pytest.skip("no documents beside this code", allow_module_level=True)


HISTORY = [
    GLOSSARY,
    *(ROOT / "docs").glob("reliability.md"),
    *(ROOT / "docs").glob("decisions/0036*"),
]
"""Pages that tell of the former words."""


def rows(heading: str) -> list[list[str]]:
    text = GLOSSARY.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2]
    lines = text.partition("\n## ")[0].splitlines()
    table = [line for line in lines if line.startswith("|")][2:]
    return [[cell.strip() for cell in line[1:-1].split(" | ")] for line in table]


def definitions() -> Iterator[str]:
    """Names of classes and types: what stands at the top of a module."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            match node:
                case ast.ClassDef(name=name):
                    yield name
                case ast.Assign(targets=[ast.Name(id=name)]) if not name.isupper():
                    yield name
                case _:
                    pass


def module_names() -> set[str]:
    files = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")]
    return {path.stem for path in files} | {path.parent.name for path in files}


def test_terms_are_in_the_order_of_the_alphabet_and_each_stands_once() -> None:
    terms = [row[0].lower() for row in rows("Terms")]
    assert terms == sorted(set(terms), key=str.lower)


def test_what_the_glossary_names_in_the_code_is_there() -> None:
    known = set(definitions())
    missing = {
        name
        for row in rows("Terms")
        for name in re.findall(r"`([^`]+)`", row[2])
        if not (name in known or (("/" in name) and (PACKAGE / name).exists()))
    }
    assert missing == set()


def test_a_check_is_of_one_of_the_kinds_that_there_are() -> None:
    (meaning,) = [row[1] for row in rows("Terms") if row[0] == "check"]
    assert set(re.findall(r"`(\w+)`", meaning)) == set(CHECK_KINDS)


def test_every_term_has_its_place_in_the_code() -> None:
    assert [row[0] for row in rows("Terms") if not row[2]] == []


def test_every_kind_of_thing_that_the_record_holds_is_a_term() -> None:
    tree = ast.parse((PACKAGE / "model/record.py").read_text(encoding="utf-8"))
    held = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    named = set(re.findall(r"`([A-Z]\w+)`", GLOSSARY.read_text(encoding="utf-8")))
    assert held - named - PARTS == set()


PARTS = {"GroupRecord", "SourceRecord", "Start", "Stop", "VolumeSnapshot"}
"""Of the record: parts whose names say all."""


def test_retired_words_name_no_module_and_no_class() -> None:
    retired = {row[0] for row in rows("Words that we do not use")}
    names = module_names() | {name.lower() for name in definitions()}
    assert retired & names - STILL_NAMED == set()


STILL_NAMED = {"face", "lead", "press"}
"""A manifest's base class, the action whose event is `lead-failed`, and a path that older units call."""


def test_retired_words_that_mean_nothing_else_are_not_in_the_documents() -> None:
    words = re.compile(r"\b(way back|ways back|seats?|shelf|courier|keeper|standstill|faces)\b")
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    found = {
        f"{page.relative_to(ROOT)}:{number}: {word}"
        for page in pages
        if page not in HISTORY
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
        for word in words.findall(line)
    }
    assert found == set()
