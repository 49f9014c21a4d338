"""A VM's generations with their verdicts, and what differs between any two of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from reconciler.control.page.rendering import macro
from reconciler.model.names import GenerationNumber
from reconciler.model.plan import FieldChange
from reconciler.model.record import VMRecord

TEMPLATE = "generations.html"

Differ = Callable[[GenerationNumber, GenerationNumber], Sequence[FieldChange]]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two generations that a person wants to compare."""

    a: GenerationNumber
    b: GenerationNumber


def history(record: VMRecord | None, differ: Differ) -> Markup:
    """All that are kept, the newest first, each with what it changed."""
    made = list(reversed(record.generations)) if record else []
    older = {newer.number: before.number for newer, before in pairwise(made)}
    rows = []
    for one in made:
        before = older.get(one.number)
        rows.append((one, before, differ(before, one.number) if before is not None else ()))
    return macro(TEMPLATE, "history", rows)


def upcoming(found: Sequence[FieldChange]) -> Markup:
    """What the next generation changes."""
    return macro(TEMPLATE, "upcoming", found)


def compare(name: str, record: VMRecord | None, pair: Pair | None, differ: Differ) -> Markup:
    """A form that asks for two generations; with `pair`, what differs between them too."""
    numbers = [one.number for one in record.generations] if record else []
    return macro(TEMPLATE, "compare", name, numbers, pair, differ(pair.a, pair.b) if pair else ())
