"""YAML as manifests may use it: types, places, and every kind of bomb."""

from __future__ import annotations

import pytest

from reconciler.source.manifests import yaml_reader
from reconciler.source.manifests.yaml_builder import MOST_ALIASES, MOST_DOCUMENTS, DocumentRefused

pytestmark = pytest.mark.shows(row=32)


def faults(content: str | bytes) -> list[str]:
    raw = content if isinstance(content, bytes) else content.encode()
    reading = yaml_reader.examine(raw)
    if reading.faults:
        with pytest.raises(DocumentRefused):
            yaml_reader.read(raw)
    return [f"{f.line}:{f.col}: {f.message}" for f in reading.faults]


@pytest.mark.shows(row=34)
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("on", "on"), ("true", True), ("False", False), ("~", None), ("", None),
        ("12:30:00", "12:30:00"), ("2024-01-31", "2024-01-31"), ("1_000", "1_000"), ("0", 0),
        ("-17", -17), ("0o17", 15), ("0x1F", 31), ("1.5", 1.5), ("1e3", 1000.0), (".5", 0.5),
        ("'17'", "17"), ('"true"', "true"), ("1.2.3", "1.2.3"), ("-", [None]), ("+", "+"),
    ],
)  # fmt: skip
def test_a_scalar_has_the_type_of_yaml_1_2(text: str, value: object) -> None:
    assert yaml_reader.read(f"a: {text}\n".encode() if text != "-" else b"a:\n-\n") == [
        {"a": value}
    ]


@pytest.mark.shows(row=34)
@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: 1e999", "1:4: 1e999 is too large a number"),
        ("a: .nan", "1:4: .nan is not a finite number"),
        ("a: -.inf", "1:4: -.inf is not a finite number"),
        ("a: 0123", "1:4: 0123 may be decimal or octal"),
        ("a: " + "9" * 5000, "1:4: the number has too many digits"),
        ("a: 1\nb: 2\na: 3", "3:1: duplicate key a"),
        ("a: {b: 1, b: 2}", "1:11: duplicate key b"),
        ("a: !!python/object:os.system x", "1:4: tag tag:yaml.org,2002:python/object:os.sy... is not allowed"),
        ("a: !mine {b: 1}", "1:4: tag !mine is not allowed"),
        ("%TAG ! x:\n---\na: 1", "1:1: tags are not allowed"),
        ("a: &x {b: 1}\nc: {<<: *x}", "2:5: merge keys are not allowed"),
        ("a: &x [*x]", "1:8: alias *x holds itself"),
        ("a: *x", "1:4: alias *x has no anchor"),
        ("? [a]\n: 1", "1:3: a key must be a plain text"),
        ("a:\n\tb: 1", "2:1: a tab cannot indent YAML"),
        ("a: b: c", "1:5: not YAML: mapping values are not allowed in this context"),
        (b"\xef\xbb\xbfa: 1", "1:1: begins with a byte order mark"),
        (b"a: 1\nb: \xff", "2:4: is not UTF-8 here"),
        (b"a: 1\nb: x\0", "2:5: control character U+0000"),
    ],
)  # fmt: skip
def test_what_is_refused_is_told_with_its_place(text: str | bytes, fault: str) -> None:
    assert faults(text)[0] == fault


@pytest.mark.shows(row=34)
def test_a_duplicate_key_names_both_places() -> None:
    found = yaml_reader.examine(b"a:\n  b: 1\n  b: 2\n").faults
    assert [(f.line, f.col, f.hint) for f in found] == [(3, 3, "first at line 2, column 3")]


def test_all_faults_of_a_file_are_told_at_once() -> None:
    assert faults("a: 1e999\nb: !x 1\nb: 0123\n") == [
        "1:4: 1e999 is too large a number",
        "2:4: tag !x is not allowed",
        "3:1: duplicate key b",
        "3:4: 0123 may be decimal or octal",
    ]


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for level in range(1, levels):
        inner = ", ".join([f"*a{level - 1}"] * 9)
        lines.append(f"a{level}: &a{level} [{inner}]")
    return "\n".join(lines)


@pytest.mark.shows(row=33)
@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[" * 1_000_000, "levels deep"),
        ("- " * 100_000, "levels deep"),
        ("{a: " * 100_000, "levels deep"),
        (bomb(9), "values in a document"),
        ("a: &x y\n" + "\n".join(f"k{n}: *x" for n in range(MOST_ALIASES + 1)), "aliases"),
        ("--- a\n" * (MOST_DOCUMENTS + 1), "documents"),
        ("- a\n" * 100_000, "values in a document"),
    ],
)
def test_a_bomb_ends_at_a_limit(content: str, says: str) -> None:
    assert says in faults(content)[0]


@pytest.mark.shows(row=33)
def test_aliases_of_deep_values_count_towards_the_depth() -> None:
    deep = "a: &d " + "[" * 40 + "]" * 40
    assert "levels deep" in faults(f"{deep}\nb: " + "[" * 30 + "*d" + "]" * 30)[0]


def test_a_modest_alias_is_what_it_stands_for() -> None:
    assert yaml_reader.read(b"a: &x {b: 1}\nc: *x\n") == [{"a": {"b": 1}, "c": {"b": 1}}]


def test_empty_documents_are_left_out() -> None:
    assert yaml_reader.read(b"---\n---\na: 1\n---\n# nothing\n") == [{"a": 1}]
    assert yaml_reader.read(b"") == []


def test_keys_and_values_have_places() -> None:
    places = yaml_reader.examine(b"a: {b: [1, {c: 2}]}\n").documents[0].places
    assert places.key(("a", "b")) == (1, 5)
    assert places.value(("a", "b", 1, "c")) == (1, 16)
    assert places.value(("a", "nowhere", 3)) == (1, 4)
