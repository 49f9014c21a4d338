"""Guards of the second guest of a VM: what holds it apart from the one that serves."""

from __future__ import annotations

from tests.mutants.guards import Mutant

HANDOVER = ("tests/scenario/test_handover.py", "tests/property/test_handover_laws.py")

BESIDE = (
    Mutant(
        "a candidate takes over before it may be committed",
        "reconciler/planning/handover.py",
        "    if standing.ready:\n        return hand_over",
        "    if standing is not None:\n        return hand_over",
        HANDOVER,
    ),
    Mutant(
        "who serves is stopped before its candidate took over",
        "reconciler/planning/handover.py",
        "if old is not None and trouble is not None and trouble.attempts >= TRIES:",
        "if old is not None and (trouble is None or trouble.attempts >= TRIES):",
        HANDOVER,
    ),
    Mutant(
        "half-moved forwards wait for what a person suspended",
        "reconciler/planning/planner.py",
        "elif finish(draft, standing, budget):",
        "elif not any(scopes(draft, standing)) and finish(draft, standing, budget):",
        HANDOVER,
    ),
    Mutant(
        "a candidate that failed sends back who serves",
        "reconciler/planning/verdicts.py",
        "if good is None or _is_candidate(standing.record, bad):",
        "if good is None:",
        HANDOVER,
    ),
    Mutant(
        "memory for both guests is not asked for",
        "reconciler/planning/preflight.py",
        "freed = None if beside else current_spec(standing)",
        "freed = current_spec(standing)",
        HANDOVER,
    ),
    Mutant(
        "a second guest may write to volumes",
        "reconciler/supervisor/keeper.py",
        "if machine.volumes and machine.slot != 1:",
        "if machine.volumes and machine.slot > 2:",
        ("tests/contract/test_supervisor.py",),
    ),
)
