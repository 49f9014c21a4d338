"""Where a piece of work for a commit may be told of, once it has ended. Off unless the config says so."""

from __future__ import annotations

from typing import Protocol


class Tracer(Protocol):
    """One trace a commit. Every method is cheap and never fails."""

    def span(
        self, revision: str, name: str, seconds: float, subject: str = "", error: str = ""
    ) -> None:
        """Something was done for this commit; it took so long and ended now."""
        ...

    def commit_ended(self, revision: str, seen_wall: float, outcome: str) -> None:
        """The commit that was first seen then came to an end: the first word about it counts."""
        ...


class Untraced:
    """Nobody asked for traces."""

    def span(
        self, revision: str, name: str, seconds: float, subject: str = "", error: str = ""
    ) -> None: ...

    def commit_ended(self, revision: str, seen_wall: float, outcome: str) -> None: ...


UNTRACED = Untraced()


def trace_of(revision: str) -> str:
    """A commit's trace id, in hex: the first half of its own, on every host and in every life."""
    return revision[:32]
