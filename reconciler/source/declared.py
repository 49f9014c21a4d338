"""Declarations with the places they come from; a place is looked up only when it is needed."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Generic, TypeVar

from reconciler.errors import Problem
from reconciler.model.desired import VMSpec
from reconciler.source import yamldoc
from reconciler.source.drafts import GroupDraft
from reconciler.source.places import Loc, Place, Reading
from reconciler.source.snapshot import ManifestFile, Snapshot

T = TypeVar("T", VMSpec, GroupDraft)
NAME: Loc = ("metadata", "name")


@dataclass(frozen=True, slots=True)
class Declared(Generic[T]):
    """One VM or group, and the document that says so."""

    file: ManifestFile
    document: int
    what: T


class Report:
    """Collects the problems of one revision.

    Positions are not kept while all is well: the file is read once more for a problem in it.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.problems: list[Problem] = []
        self.claimed: set[tuple[str, str]] = set()
        """Kind and name of what is declared by documents that have faults."""
        self.legible = True
        """Whether all that is declared is known by name."""
        self._snapshot = snapshot
        self._readings: dict[bytes, Reading] = {}

    def lacks(self, kind: str, name: str, known: Container[str]) -> bool:
        """Whether it can be told that nobody declares this."""
        return self.legible and name not in known and (kind, name) not in self.claimed

    def add(self, at: Declared[T], loc: Loc, message: str, hint: str = "") -> None:
        line, col = self.place(at, loc)
        self.problems.append(Problem(at.file.path, line, col, message, hint))

    def place(self, at: Declared[T], loc: Loc) -> Place:
        reading = self._readings.get(at.file.blob)
        if reading is None:
            reading = yamldoc.examine(self._snapshot.read(at.file))
            self._readings[at.file.blob] = reading
        return reading.documents[at.document].places.value(loc)

    def where(self, at: Declared[T], loc: Loc = NAME) -> str:
        """`file:line:col`, to name the other of two places."""
        line, col = self.place(at, loc)
        return f"{at.file.path}:{line}:{col}"
