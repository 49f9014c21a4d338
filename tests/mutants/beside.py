"""Guards of the second guest of a VM: what holds it apart from the one that serves."""

from __future__ import annotations

from tests.mutants.guards import Mutant

HANDOVER = ("tests/scenario/test_handover.py", "tests/property/test_handover_laws.py")

FRONT = ("tests/scenario/test_front.py", "tests/scenario/test_handover.py")

BESIDE = (
    Mutant(
        "a candidate takes over before it may be committed",
        "reconciler/planning/handover.py",
        "    if standing.ready:\n        _hand_over",
        "    if standing is not None:\n        _hand_over",
        HANDOVER,
    ),
    Mutant(
        "ports are led only while nobody suspended the VM",
        "reconciler/planning/planner.py",
        "elif finish(draft, standing) or lead(draft, standing):",
        "elif not any(scopes(draft, standing)) and (finish(draft, standing) or lead(draft, standing)):",
        FRONT,
    ),
    Mutant(
        "a front that died is not noticed",
        "reconciler/planning/planner.py",
        "        and as_wanted(draft, standing)\n",
        "",
        FRONT,
    ),
    Mutant(
        "a front that does not answer leads nothing, it is thought",
        "reconciler/planning/leads.py",
        "    if draft.observed.front_ails:\n        if want is not None:",
        "    if draft.observed.front_ails and want is None:\n        if want is not None:",
        FRONT,
    ),
    Mutant(
        "the front leads to guests that are gone",
        "reconciler/planning/leads.py",
        "    if guest is None or start is None or start.instance != guest.instance or not start.routes:",
        "    if start is None or (guest and start.instance != guest.instance) or not start.routes:",
        FRONT,
    ),
    Mutant(
        "ports go back to who served in the middle of a handover",
        "reconciler/planning/handover.py",
        "        _hand_over(draft, standing)\n        return True\n    running",
        "        return False\n    running",
        FRONT,
    ),
    Mutant(
        "ports that the front holds are a stranger's",
        "reconciler/planning/ports.py",
        "    return _fronted(draft, standing.name) if own is not None or spec.handed_over else set()",
        "    return set()",
        FRONT,
    ),
    Mutant(
        "a port that cannot be had is taken from the ports that can",
        "reconciler/front/table.py",
        "        fresh = self._listen(vm, [place for place in routes if place not in held])\n",
        "        fresh = self._listen(vm, [place for place in routes if place not in held])\n"
        "        held = {}\n",
        ("tests/contract/test_front.py", "tests/unit/front"),
    ),
    Mutant(
        "a connection that was just taken is not counted",
        "reconciler/front/relay.py",
        "        line.open[instance] += 1\n",
        "        self._loop.call_later(1.0, line.open.update, [instance])\n",
        ("tests/unit/front",),
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
