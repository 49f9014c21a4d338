"""What is known of the source: its commits, refused revisions, and since when it cannot be read."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.model.names import Revision


@dataclass(frozen=True, slots=True)
class CommitSummary:
    revision: Revision
    parents: tuple[Revision, ...]
    subject: str
    """The first line of its message, cut; its author's words, and trusted by nobody."""
    author_wall: float
    """What its author says."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A revision that was read and refused; the one before stays in force."""

    revision: str
    problems: tuple[str, ...]
    since_wall: float
    kind: str = "parse"
    """parse (its manifests), ancestry (it continues nothing that was followed), verify, limit (it is too
    large to be read) or timeout (reading it took too long)."""
    more: int = 0
    """Problems beside those that are kept, at least."""

    @property
    def count(self) -> int:
        return len(self.problems) + self.more


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The source has not been read for so long that people were told."""

    kind: str
    since_wall: float
