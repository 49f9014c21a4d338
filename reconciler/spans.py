"""The tracing interface: spans for work done for a commit. Off unless the config names an endpoint."""

from __future__ import annotations

from typing import Protocol


class Tracer(Protocol):
    """Records one trace for each commit. Every method is cheap and never raises."""

    def span(
        self, revision: str, name: str, seconds: float, subject: str = "", error: str = ""
    ) -> None:
        """Record work for a commit that took `seconds` and ends now. `error`: empty if it succeeded."""
        ...

    def commit_ended(self, revision: str, seen_wall: float, outcome: str) -> None:
        """Record the end of a commit, once. `seen_wall`: unix time when it was first seen."""
        ...


class Untraced:
    """The tracer that records nothing."""

    def span(
        self, revision: str, name: str, seconds: float, subject: str = "", error: str = ""
    ) -> None:
        """Does nothing."""

    def commit_ended(self, revision: str, seen_wall: float, outcome: str) -> None:
        """Does nothing."""


UNTRACED = Untraced()


def trace_of(revision: str) -> str:
    """A commit's trace id in hex: the first 32 digits of its own id, so every host uses the same."""
    return revision[:32]
