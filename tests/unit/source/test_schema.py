"""The generated schema and reference are fresh and true."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.model.fields import FORMS, STATUS_RE
from reconciler.model.quantity import DURATION_PATTERN, SHARE_PATTERN, SIZE_PATTERN
from reconciler.source.manifests.json_schema import generated, manifest_schema

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("path", list(generated()), ids=str)
def test_generated_files_are_fresh(path: Path) -> None:
    fresh = (ROOT / path).read_text(encoding="utf-8") == generated()[path]
    assert fresh, "run: python -m reconciler.source.manifests.json_schema --write"


def test_every_field_is_described_and_nothing_else_is_allowed() -> None:
    for name, made in manifest_schema()["$defs"].items():
        assert made["additionalProperties"] is False, name
        assert all("description" in field for field in made["properties"].values()), name


def test_defaults_stand_as_people_write_them() -> None:
    definitions = manifest_schema()["$defs"]
    assert definitions["Health"]["properties"]["startupDeadline"]["default"] == "5m"
    assert definitions["Spec"]["properties"]["memory"]["default"] == "256MiB"
    assert "null" not in str(definitions)


PARSED = {DURATION_PATTERN, SIZE_PATTERN, SHARE_PATTERN, STATUS_RE.pattern}
"""Of texts that a parser reads, which has messages of its own."""


def patterns(made: object) -> Iterator[str]:
    """Every pattern of a schema."""
    if isinstance(made, dict):
        if isinstance(made.get("pattern"), str):
            yield made["pattern"]
        yield from made.get("patternProperties", ())
        for inner in made.values():
            yield from patterns(inner)
    elif isinstance(made, list):
        for inner in made:
            yield from patterns(inner)


def test_every_text_with_a_pattern_has_a_hint_for_people() -> None:
    """Declare it with `matching` (`reconciler/model/fields.py`)."""
    found = set(patterns(manifest_schema())) - PARSED
    assert found
    assert found - FORMS.keys() == set()
