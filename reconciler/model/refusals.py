"""What could not be followed: a source that was not read, a revision that was read and refused."""

from __future__ import annotations

from dataclasses import dataclass


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
