"""Declarations with the places they come from; a place is looked up only when it is needed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Container
from dataclasses import dataclass
from typing import Generic, TypeVar

from reconciler.errors import Problem
from reconciler.model.desired import VMSpec
from reconciler.model.record import MOST_PROBLEMS
from reconciler.source.manifests import yaml_reader
from reconciler.source.manifests.convert import GroupDraft
from reconciler.source.manifests.error_messages import nearest
from reconciler.source.manifests.places import Fault, Loc, Place, Reading
from reconciler.source.manifests.revision_files import ManifestFile, RevisionFiles

T = TypeVar("T", VMSpec, GroupDraft)
NAME: Loc = ("metadata", "name")
MOST_SUGGESTED = 1_000
"""Names among which a likely one is searched for: it costs time for each error."""
MOST_READ = 2 * 1024 * 1024
"""Bytes of the files whose positions are kept, which may take 100 times as much."""
MOST_PATH, MOST_WORDS = 400, 500
"""Characters of a problem's path, and of its message and of its hint."""


@dataclass(frozen=True, slots=True)
class Declared(Generic[T]):
    """One VM or group, and the document that says so."""

    file: ManifestFile
    document: int
    what: T


class Report:
    """Collects the problems of one revision: the first `most` in words, the others by their number.

    Positions are not kept while all is well: the file is read once more for a problem in it. Once the
    report is full, no more work is done for words that nobody would read.
    """

    def __init__(self, snapshot: RevisionFiles, most: int = MOST_PROBLEMS) -> None:
        self.problems: dict[Problem, None] = {}
        self.more = 0
        """Problems beside those, at least."""
        self.claimed: set[tuple[str, str]] = set()
        """Kind and name of what is declared by documents that have faults."""
        self.legible = True
        """Whether all that is declared is known by name."""
        self._most = most
        self._snapshot = snapshot
        self._readings: OrderedDict[bytes, tuple[int, Reading]] = OrderedDict()

    @property
    def room(self) -> int:
        """How many more problems are put into words."""
        return self._most - len(self.problems)

    @property
    def count(self) -> int:
        return len(self.problems) + self.more

    def lacks(self, kind: str, name: str, known: Container[str]) -> bool:
        """Whether it can be told that nobody declares this."""
        return self.legible and name not in known and (kind, name) not in self.claimed

    def add(self, at: Declared[T], loc: Loc, message: str, hint: str = "") -> None:
        if self.room > 0:
            self.put(at.file.path, Fault(*self.place(at, loc), message, hint))
        else:
            self.more += 1

    def put(self, path: str, fault: Fault) -> None:
        """A problem whose place is known."""
        problem = Problem(
            clipped(path, MOST_PATH),
            fault.line,
            fault.col,
            clipped(fault.message, MOST_WORDS),
            clipped(fault.hint, MOST_WORDS),
        )
        if problem in self.problems:
            return
        if self.room > 0:
            self.problems[problem] = None
        else:
            self.more += 1

    def place(self, at: Declared[T], loc: Loc) -> Place:
        known = self._readings.pop(at.file.blob, None)
        if known is None:
            content = self._snapshot.read(at.file)
            known = (len(content), yaml_reader.examine(content))
        while self._readings and known[0] + sum(s for s, _ in self._readings.values()) > MOST_READ:
            self._readings.popitem(last=False)
        self._readings[at.file.blob] = known
        return known[1].documents[at.document].places.value(loc)

    def where(self, at: Declared[T], loc: Loc = NAME) -> str:
        """`file:line:col`, to name the other of two places; empty once the report is full."""
        if self.room <= 0:
            return ""
        line, col = self.place(at, loc)
        return f"{clipped(at.file.path, MOST_PATH)}:{line}:{col}"

    def suggestion(self, name: str, known: Collection[str]) -> str:
        """The name that was likely meant, in words; empty when none is near, or it is not worth a search."""
        if self.room <= 0 or len(known) > MOST_SUGGESTED:
            return ""
        hint = nearest(name, list(known))
        return hint if hint.startswith("did") or len(known) <= FEW else ""


FEW = 8
"""Names that a hint lists all of."""


def clipped(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
