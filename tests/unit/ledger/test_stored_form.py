"""The form of stored rows: a field or word that is gone or new by accident would make a ledger unreadable."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter

from reconciler.ledger.codec import Body
from reconciler.model.event import Event

FORM = Path(__file__).with_name("stored_form.txt")
"""One line for each field, and for each word that a field of words may have, by its place in a row."""
OPEN = f"{Event.__name__}.kind"
"""Words of other versions are read here, too."""


def places(schema: dict[str, Any], known: dict[str, Any], at: str) -> Iterator[str]:
    """The lines of one JSON schema; a field without a default is required in every row."""
    schema = known[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    for part in (
        *schema.get("anyOf", ()),
        *schema.get("oneOf", ()),
        *schema.get("prefixItems", ()),
    ):
        yield from places(part, known, at)
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(schema.get(key), dict):
            yield from places(schema[key], known, at + mark)
    for name, field in schema.get("properties", {}).items():
        yield f"{at}.{name}{' required' if name in schema.get('required', ()) else ''}"
        yield from places(field, known, f"{at}.{name}")
    words = schema.get("enum", [schema["const"]] if "const" in schema else [])
    yield from (f"{at} = {word}" for word in words if at != OPEN)


def form() -> set[str]:
    found = set[str]()
    for kind in get_args(Body):
        schema = TypeAdapter(kind).json_schema()
        found.update(places(schema, schema.get("$defs", {}), kind.__name__))
    return found


def test_every_field_and_word_that_a_ledger_may_hold_is_still_read() -> None:
    gone = set(FORM.read_text(encoding="utf-8").splitlines()) - form()
    assert gone == set(), (
        "a ledger of the version before is read after a migration (ledger/schema.py)"
    )


def test_what_is_new_in_a_row_is_written_down() -> None:
    new = form() - set(FORM.read_text(encoding="utf-8").splitlines())
    assert new == set(), f"add these lines to {FORM.name}; a new field needs a default"
