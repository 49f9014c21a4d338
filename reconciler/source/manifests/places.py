"""Documents with line and column of their keys and values, and the faults found in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from reconciler.safe_text import clean

MOST_SHOWN = 40
"""Characters of a text from a manifest that a message shows."""

Loc = tuple[str | int, ...]
Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault in a file, at a line and column that count from 1."""

    line: int
    col: int
    message: str
    hint: str = ""


@dataclass(slots=True)
class Places:
    """Line and column of the keys and values of one document."""

    keys: dict[Loc, Place] = field(default_factory=dict)
    values: dict[Loc, Place] = field(default_factory=dict)

    def value(self, loc: Loc) -> Place:
        """The place of a value, or of the nearest enclosing value that the file contains."""
        for end in range(len(loc), -1, -1):
            if (found := self.values.get(loc[:end])) is not None:
                return found
        return (1, 1)

    def key(self, loc: Loc) -> Place:
        """The place of a key, or of its value if the key has none."""
        return self.keys.get(loc) or self.value(loc)


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document as plain data."""

    data: Any
    places: Places


@dataclass(frozen=True, slots=True)
class Reading:
    """A file as read: its documents, and its faults."""

    documents: tuple[Document, ...]
    faults: tuple[Fault, ...]


def shortened(value: str) -> str:
    """A text from a manifest for a message: printable, and at most MOST_SHOWN characters."""
    shown = clean(value[: MOST_SHOWN + 1])
    return shown if len(shown) <= MOST_SHOWN else shown[: MOST_SHOWN - 3] + "..."
