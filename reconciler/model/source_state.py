"""What is known of the source: its commits, refused revisions, and since when it cannot be read."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.model.names import Revision


@dataclass(frozen=True, slots=True)
class CommitSummary:
    """A commit as the page shows it."""

    revision: Revision
    parents: tuple[Revision, ...]
    subject: str
    """The first line of its message, cut; untrusted text."""
    author_wall: float
    """By its author's clock."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A revision that was read and refused; the one before stays in force."""

    revision: str
    problems: tuple[str, ...]
    since_wall: float
    kind: str = "parse"
    """parse (its manifests), ancestry (it does not descend from what was followed), verify (signatures),
    limit (too large to read) or timeout (reading took too long)."""
    more: int = 0
    """A lower bound on the number of further problems."""

    @property
    def count(self) -> int:
        """A lower bound on the number of all problems."""
        return len(self.problems) + self.more


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The source could not be read for so long that an event reported it."""

    kind: str
    since_wall: float
