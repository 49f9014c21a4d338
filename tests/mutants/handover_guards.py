"""Guards of the second guest of a VM: what holds it apart from the one that serves."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

HANDOVER = ("tests/scenario/test_handover.py", "tests/property/test_handover_laws.py")

AGAIN = ("tests/scenario/test_again.py",)

FRONT = ("tests/scenario/test_front.py", "tests/scenario/test_handover.py")

MUTANTS = (
    Mutant(
        "a candidate takes over before it may be committed",
        "reconciler/planning/steps/handover.py",
        "    return _hand_over(plan, vm) if vm.ready else StepResult.SKIP\n",
        "    return _hand_over(plan, vm)\n",
        HANDOVER,
    ),
    Mutant(
        "ports are led only while nobody suspended the VM",
        "reconciler/planning/planner.py",
        "        handover.resume,\n        routing.update,\n",
        "        suspension.wait,\n        handover.resume,\n        routing.update,\n",
        FRONT,
        before="operations.wait,",
        after="rename.resume,\n prune.remove,\n suspension.wait,\n partial(next_step.move,",
    ),
    Mutant(
        "a front that died is not noticed",
        "reconciler/planning/planner.py",
        "        and is_current(plan, vm)\n",
        "",
        FRONT,
        after="and images_ready(plan, spec)",
    ),
    Mutant(
        "a front that does not answer leads nothing, it is thought",
        "reconciler/planning/steps/routing.py",
        "    if plan.observed.proxy_error:\n        if want is not None:",
        "    if plan.observed.proxy_error and want is None:\n        if want is not None:",
        FRONT,
    ),
    Mutant(
        "the front leads to guests that are gone",
        "reconciler/planning/steps/routing.py",
        "    if guest is None or start is None or start.instance != guest.instance or not start.routes:",
        "    if start is None or (guest and start.instance != guest.instance) or not start.routes:",
        FRONT,
    ),
    Mutant(
        "ports go back to who served in the middle of a handover",
        "reconciler/planning/steps/handover.py",
        "        return _hand_over(plan, vm)\n    running",
        "        return StepResult.SKIP\n    running",
        FRONT,
    ),
    Mutant(
        "ports that the front holds are a stranger's",
        "reconciler/planning/preflight/host_ports.py",
        "    return _fronted(plan, vm.name) if own is not None or spec.handed_over else set()",
        "    return set()",
        FRONT,
    ),
    Mutant(
        "a port that cannot be had is taken from the ports that can",
        "reconciler/proxy/routing_table.py",
        "        fresh = self._listen(vm, [place for place in routes if place not in held])\n",
        "        fresh = self._listen(vm, [place for place in routes if place not in held])\n"
        "        held = {}\n",
        ("tests/contract/test_front.py", "tests/unit/front"),
    ),
    Mutant(
        "a connection that was just taken is not counted",
        "reconciler/proxy/tcp_relay.py",
        "        line.open[instance] += 1\n",
        "        self._loop.call_later(1.0, line.open.update, [instance])\n",
        ("tests/unit/front",),
    ),
    Mutant(
        "a candidate that failed sends back who serves",
        "reconciler/planning/verdicts/judgement.py",
        "if good is None or _is_candidate(vm.record, bad) or",
        "if good is None or",
        HANDOVER,
    ),
    Mutant(
        "memory for both guests is not asked for",
        "reconciler/planning/preflight/blockers.py",
        "freed = None if beside else current_spec(vm)",
        "freed = current_spec(vm)",
        HANDOVER,
    ),
    Mutant(
        "a second guest may write to volumes",
        "reconciler/supervisor/process_supervisor.py",
        "if machine.volumes and machine.slot != 1:",
        "if machine.volumes and machine.slot > 2:",
        ("tests/contract/test_supervisor.py",),
    ),
    Mutant(
        "a restart stops who serves",
        "reconciler/planning/steps/next_step.py",
        "    replaced = handover.replace_anew(plan, vm, target.generation)\n",
        "    replaced = StepResult.SKIP\n",
        AGAIN,
    ),
    Mutant(
        "a way back stops who serves",
        "reconciler/planning/steps/next_step.py",
        "    if handover.applies(vm, spec):\n"
        "        begun = handover.begin(plan, vm, target, spec)\n",
        "    if fresh and handover.applies(vm, spec):\n"
        "        begun = handover.begin(plan, vm, target, spec)\n",
        AGAIN,
    ),
    Mutant(
        "who does not serve waits for a guest beside it",
        "reconciler/planning/steps/handover.py",
        "    return spec.handed_over and vm.guest is not None and not vm.down\n",
        "    return spec.handed_over and vm.guest is not None\n",
        AGAIN,
    ),
    Mutant(
        "a restart that does not come up condemns what serves",
        "reconciler/planning/verdicts/judgement.py",
        '    if generation.verdict == "trial":\n        condemn(',
        "    if generation is not None:\n        condemn(",
        AGAIN,
        after="plan, vm, generation, why, evidence)",
    ),
    Mutant(
        "a way back that failed is tried again without a pause",
        "reconciler/planning/steps/handover.py",
        '    if back and in_trouble(plan, vm, "candidate"):\n',
        "    if back and made is None:\n",
        AGAIN,
    ),
    Mutant(
        "who served is gone, and its second guest is not in its place",
        "reconciler/planning/planner.py",
        "        handover.promote_candidate(plan, vm)\n",
        "",
        AGAIN,
        before="damage.note(plan, vm)\noutcomes.absorb_exits(plan, vm)",
    ),
    Mutant(
        "a second guest that is adopted puts what serves on trial",
        "reconciler/planning/steps/adoption.py",
        '    if known is None or known.verdict != "committed":',
        "    if known is None or known.verdict:",
        AGAIN,
        after='record = record.with_generation(replace(found, verdict="trial", evidence=None))',
    ),
    Mutant(
        "a candidate is what is started next",
        "reconciler/engine/execute.py",
        "self._describe(action.machine, current=False)",
        "self._describe(action.machine, current=True)",
        AGAIN,
    ),
    Mutant(
        "a guest that serves is stopped by the runner of the one beside it",
        "reconciler/vmm/generation_folders.py",
        "            if current or not _same(layout.booted(home), target):\n",
        "            if target:\n",
        ("tests/unit/vmm/test_generations.py",),
    ),
    Mutant(
        "nobody's ports are kept while the front does not answer",
        "reconciler/planning/preflight/host_ports.py",
        "    for wanted in spec.listens:\n        if wanted in mine:\n",
        "    for wanted in spec.listens:\n        if wanted in mine or plan.observed.proxy_error:\n",
        FRONT,
    ),
)
