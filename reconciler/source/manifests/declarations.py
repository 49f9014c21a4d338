"""Declared VMs and groups with the documents they are from, and the report of a revision's problems."""

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
"""Names that are searched for a similar one; the search costs time for each error."""
MOST_READ = 2 * 1024 * 1024
"""Total size of files whose positions are cached; positions take up to 100 times as much memory."""
MOST_PATH, MOST_WORDS = 400, 500
"""Characters of a problem's path, and of its message and hint each."""
FEW = 8
"""Up to this many known names, a hint lists all of them."""


@dataclass(frozen=True, slots=True)
class Declared(Generic[T]):
    """One VM or group, with the file and document that declare it."""

    file: ManifestFile
    document: int
    what: T


class Report:
    """Collects the problems of one revision: the first `most` in full, the others as a number.

    Positions are computed only for files with problems, by reading the file once more. A full report
    does no further work on messages, so that a revision full of errors stays cheap.
    """

    def __init__(self, snapshot: RevisionFiles, most: int = MOST_PROBLEMS) -> None:
        self.problems: dict[Problem, None] = {}
        self.more = 0
        """A lower bound on the number of problems beyond those."""
        self.claimed: set[tuple[str, str]] = set()
        """Kind and name of declarations in documents that have faults."""
        self.legible = True
        """Whether the names of all declarations are known."""
        self._most = most
        self._snapshot = snapshot
        self._readings: OrderedDict[bytes, tuple[int, Reading]] = OrderedDict()

    @property
    def room(self) -> int:
        """How many more problems fit into the report."""
        return self._most - len(self.problems)

    @property
    def count(self) -> int:
        """A lower bound on the number of all problems."""
        return len(self.problems) + self.more

    def lacks(self, kind: str, name: str, known: Container[str]) -> bool:
        """Whether it is certain that no document declares this name."""
        return self.legible and name not in known and (kind, name) not in self.claimed

    def add(self, at: Declared[T], loc: Loc, message: str, hint: str = "") -> None:
        """Add a problem at a place in a document."""
        if self.room > 0:
            self.put(at.file.path, Fault(*self.place(at, loc), message, hint))
        else:
            self.more += 1

    def put(self, path: str, fault: Fault) -> None:
        """Add a problem whose place is known."""
        problem = Problem(
            _clipped(path, MOST_PATH),
            fault.line,
            fault.col,
            _clipped(fault.message, MOST_WORDS),
            _clipped(fault.hint, MOST_WORDS),
        )
        if problem in self.problems:
            return
        if self.room > 0:
            self.problems[problem] = None
        else:
            self.more += 1

    def place(self, at: Declared[T], loc: Loc) -> Place:
        """Line and column of a value, both from 1."""
        known = self._readings.pop(at.file.blob, None)
        if known is None:
            content = self._snapshot.read(at.file)
            known = (len(content), yaml_reader.examine(content))
        while self._readings and known[0] + sum(s for s, _ in self._readings.values()) > MOST_READ:
            self._readings.popitem(last=False)
        self._readings[at.file.blob] = known
        return known[1].documents[at.document].places.value(loc)

    def where(self, at: Declared[T], loc: Loc = NAME) -> str:
        """`file:line:col` of a declaration, for hints; empty once the report is full."""
        if self.room <= 0:
            return ""
        line, col = self.place(at, loc)
        return f"{_clipped(at.file.path, MOST_PATH)}:{line}:{col}"

    def suggestion(self, name: str, known: Collection[str]) -> str:
        """A hint with the most similar name; empty if none is similar or a search would cost too much."""
        if self.room <= 0 or len(known) > MOST_SUGGESTED:
            return ""
        hint = nearest(name, list(known))
        return hint if hint.startswith("did") or len(known) <= FEW else ""


def _clipped(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
