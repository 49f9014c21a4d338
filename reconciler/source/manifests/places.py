"""Documents with the places of what they hold, and the faults found on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from reconciler.safe_text import clean

MOST_SHOWN = 40
"""Characters of a foreign text that an error shows."""

Loc = tuple[str | int, ...]
Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that a reader refuses."""

    line: int
    col: int
    message: str
    hint: str = ""


@dataclass(slots=True)
class Places:
    """Where the keys and values of one document stand."""

    keys: dict[Loc, Place] = field(default_factory=dict)
    values: dict[Loc, Place] = field(default_factory=dict)

    def value(self, loc: Loc) -> Place:
        """The place of a value, or of the nearest one around it that the file spells out."""
        for end in range(len(loc), -1, -1):
            if (found := self.values.get(loc[:end])) is not None:
                return found
        return (1, 1)

    def key(self, loc: Loc) -> Place:
        return self.keys.get(loc) or self.value(loc)


@dataclass(frozen=True, slots=True)
class Document:
    data: Any
    places: Places


@dataclass(frozen=True, slots=True)
class Reading:
    documents: tuple[Document, ...]
    faults: tuple[Fault, ...]


def shortened(value: str) -> str:
    """A foreign text as an error may show it: printable, and never long."""
    shown = clean(value[: MOST_SHOWN + 1])
    return shown if len(shown) <= MOST_SHOWN else shown[: MOST_SHOWN - 3] + "..."
