"""Guards of taps: whose they are, and what a guest that was cut off may not be blamed for."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

TAPS = ("tests/scenario/test_taps.py",)

MUTANTS = (
    Mutant(
        "taps of guests that live are removed",
        "reconciler/planning/steps/taps.py",
        "if name not in claimed and not _untouchable(plan, owner):",
        "if not _untouchable(plan, owner):",
        TAPS,
    ),
    Mutant(
        "an interface that is not ours is taken for a tap",
        "reconciler/planning/preflight/bridges.py",
        "    if there.owner is None:\n",
        "    if there.owner == vm.desired_name:\n",
        TAPS,
    ),
    Mutant(
        "a guest whose bridge was restarted is asked as if nothing had been",
        "reconciler/planning/intake/isolation.py",
        "if settling or _is_loose(generation.spec, observed.links):",
        "if settling and _is_loose(generation.spec, observed.links):",
        TAPS,
    ),
)
