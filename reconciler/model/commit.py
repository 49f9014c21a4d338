"""A commit as people see it: who came before it, and what its author said of it."""

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
