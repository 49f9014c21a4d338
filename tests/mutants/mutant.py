"""A mutant: the tree without one of its guards."""

from __future__ import annotations

from dataclasses import dataclass

PLANNING = ("tests/scenario", "tests/simulation", "tests/property/test_planner_laws.py")
"""The tests of most guards."""


@dataclass(frozen=True)
class Mutant:
    """`guard` and `gone` are fragments of code, before and after.

    The guard is found by its shape (see `finding`), so a later change of names or lines breaks
    nothing. `file` is where it stood when the mutant was written, and decides between equals.
    """

    name: str
    file: str
    guard: str
    gone: str
    tests: tuple[str, ...] = PLANNING
    before: str = ""
    after: str = ""
    """The code around it, where the guard's own shape is that of others, too."""

    @property
    def is_quick(self) -> bool:
        """Whether its tests are a few files of one module, and take seconds."""
        return all(path.startswith("tests/unit/") and path.endswith(".py") for path in self.tests)
