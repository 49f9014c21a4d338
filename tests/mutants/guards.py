"""The guards, each as the piece of code that holds it and what it looks like when it is gone."""

from __future__ import annotations

from dataclasses import dataclass

PLANNING = ("tests/scenario", "tests/simulation", "tests/property/test_planner_laws.py")

NOTIFY = ("tests/unit/notify",)


@dataclass(frozen=True)
class Mutant:
    name: str
    file: str
    guard: str
    gone: str
    tests: tuple[str, ...] = PLANNING


MUTANTS = (
    Mutant(
        "the VM's lock is not taken",
        "reconciler/supervisor/lock.py",
        "fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "pass",
        ("tests/contract", "tests/unit/supervisor"),
    ),
    Mutant(
        "a second daemon may run on the same state",
        "reconciler/statedir.py",
        "fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)",
        ("tests/fault/test_stopped_daemon.py",),
    ),
    Mutant(
        "the power button is pressed for whoever answers",
        "reconciler/vmm/qemu/qmp.py",
        "if pid not in (None, answering := _listener(sock)):",
        "if pid not in (pid, answering := _listener(sock)):",
        ("tests/unit/vmm/test_qmp.py",),
    ),
    Mutant(
        "a condemned digest is not blocked",
        "reconciler/planning/verdicts.py",
        "record = replace(record, blocked=tuple([*others, block][-BLOCKED_KEPT:]))",
        "record = replace(record, blocked=tuple(others))",
    ),
    Mutant(
        "a blocked digest is a target all the same",
        "reconciler/planning/targets.py",
        "if (block := record.block_of(spec.digest)) is not None:",
        "if (block := record.block_of(spec.digest)) is not None and not block:",
    ),
    Mutant(
        "a failed group is not held",
        "reconciler/planning/verdicts.py",
        "    hold_after_failure(draft, standing, generation, why)\n",
        "",
    ),
    Mutant(
        "a hold outlives the digest that failed",
        "reconciler/planning/holds.py",
        "if failed is None or failed.digest != hold.digest:\n            draft.groups",
        "if failed is None:\n            draft.groups",
    ),
    Mutant(
        "the hold keeps nobody",
        "reconciler/planning/targets.py",
        "if hold is not None and (standing.name, spec.digest) in hold.held:",
        "if hold is not None and not hold.held:",
    ),
    Mutant(
        "the budget is not counted down",
        "reconciler/planning/rollout.py",
        "            self._left[group] -= 1\n            self._down[group].append(standing.name)\n            return True",
        "            return True",
    ),
    Mutant(
        "VMs that are down for other reasons do not count",
        "reconciler/planning/rollout.py",
        "            if not standing.available:\n                self._left[group] -= 1",
        "            if not standing.available:\n                self._left[group] -= 0",
    ),
    Mutant(
        "a guest that was not asked yet counts as broken and costs nothing",
        "reconciler/planning/rollout.py",
        "if standing.down or standing.spec is None:",
        "if not standing.available or standing.spec is None:",
    ),
    Mutant(
        "the soak is forgotten",
        "reconciler/planning/verdicts.py",
        "elif passing >= health.min_healthy_time:\n        return True",
        "elif passing >= 0:\n        return True",
    ),
    Mutant(
        "a flip does not restart the soak",
        "reconciler/planning/health.py",
        "return guest.health.passing_since",
        "return guest.process.started_boot if guest.health.ever_passed else None",
    ),
    Mutant(
        "build time is charged to the health deadline",
        "reconciler/planning/steps.py",
        "deadline = draft.deadline(generation.spec.health.startup_deadline)",
        "deadline = draft.deadline(\n        generation.spec.health.startup_deadline - (now.wall - generation.created_wall) - 25.0\n    )",
    ),
    Mutant(
        "an empty set is accepted",
        "reconciler/planning/prune.py",
        "if state.vms or not record.vms:",
        "if state.vms or not record.vms or True:",
    ),
    Mutant(
        "removal happens though prune is off",
        "reconciler/planning/prune.py",
        "if not policy.prune:",
        "if not policy.prune and not removals:",
    ),
    Mutant(
        "any number of VMs is removed at once",
        "reconciler/planning/prune.py",
        "if removals > policy.max_delete and not _confirmed(draft):",
        "if removals > policy.max_delete + 1000:",
    ),
    Mutant(
        "a guest is stopped before its successor's images are there",
        "reconciler/planning/moves.py",
        "    if not ready(draft, standing, spec):\n        return\n",
        "",
    ),
    Mutant(
        "the preflight is skipped",
        "reconciler/planning/moves.py",
        "if not preflight(draft, standing, spec) or not budget.take(standing):",
        "if not budget.take(standing):",
    ),
    Mutant(
        "a failed rollback is tried for ever",
        "reconciler/planning/verdicts.py",
        '        quarantine(draft, standing, f"rolling back failed: not healthy in time: {why}")',
        "        pass",
    ),
    Mutant(
        "a rollback crosses a data epoch",
        "reconciler/planning/verdicts.py",
        "elif bad.spec.rollback.data_epoch != good.spec.rollback.data_epoch and not taken_for(",
        "elif bad.spec.rollback.data_epoch < 0 and not taken_for(",
    ),
    Mutant(
        "the wish to be after another VM is ignored",
        "reconciler/planning/gates.py",
        "    if not _dependencies(draft, standing) or not _breaker(draft, standing):",
        "    if not _breaker(draft, standing):",
    ),
    Mutant(
        "a crash of a committed guest condemns it",
        "reconciler/planning/absorb.py",
        'if generation.verdict == "trial":',
        'if generation.verdict != "condemned":',
    ),
    Mutant(
        "pauses between crashes do not grow",
        "reconciler/planning/policy.py",
        "return min(longest, first * 2.0 ** min(attempts - 1, 32))",
        "return 0.0 * longest * first * attempts",
    ),
    Mutant(
        "intents are not written before the effect",
        "reconciler/engine/execute.py",
        "changes: list[Change] = [*self._unbegun, *ended, *plan.changes, *begun]",
        "changes: list[Change] = [*self._unbegun, *ended, *begun]",
    ),
    Mutant(
        "what was interrupted is never closed",
        "reconciler/engine/execute.py",
        'await ports.ledger.write([EndIntent(intent.id, "interrupted") for intent in left])',
        "await ports.ledger.write([])",
    ),
    Mutant(
        "pinned images are collected",
        "reconciler/planning/images.py",
        "garbage = (observed.layers | observed.kernels) - pinned",
        "garbage = observed.layers | observed.kernels\n    pinned = set()",
    ),
    Mutant(
        "a stop that was begun is forgotten over a crash",
        "reconciler/planning/moves.py",
        "elif begun is not None and begun.instance == standing.guest.instance:",
        "elif begun is not None and begun.instance == standing.name:",
    ),
    Mutant(
        "a suspended VM is acted on",
        "reconciler/planning/planner.py",
        "elif not suspended(draft, standing):",
        "elif not suspended(draft, standing) or True:",
    ),
    Mutant(
        "clocks run on while suspended",
        "reconciler/planning/verdicts.py",
        "if standing.busy or paused or standing.stopping:",
        "if standing.busy or standing.stopping:",
    ),
    Mutant(
        "a rollback leaves what the bad generation wrote",
        "reconciler/planning/snapshots.py",
        "    return _restore_first(draft, standing, purpose)\n",
        "    return True\n",
    ),
    Mutant(
        "the snapshot is taken anew after an overtaken trial wrote",
        "reconciler/planning/snapshots.py",
        'if snapshot is not None and snapshot.state == "taken":',
        'if snapshot is not None and snapshot.before == generation.number and snapshot.state == "taken":',
    ),
    Mutant(
        "the canary does not soak",
        "reconciler/planning/gates.py",
        "        if left > 0:",
        "        if left > 1e9:",
    ),
    Mutant(
        "an allowing window wins over a denying one",
        "reconciler/planning/windows.py",
        "if not window.allow and (end := _end_of(window, wall)) is not None:",
        "if not window.allow and (end := _end_of(window, wall)) == 0:",
    ),
    Mutant(
        "the host's breaker never opens",
        "reconciler/planning/gates.py",
        "if len(recent) + under_way < draft.policy.max_rollbacks_per_hour:",
        "if len(recent) + under_way < draft.policy.max_rollbacks_per_hour + 1000:",
    ),
    Mutant(
        "what is under way does not count towards the host's breaker",
        "reconciler/planning/gates.py",
        "if len(recent) + under_way < draft.policy.max_rollbacks_per_hour:",
        "if len(recent) < draft.policy.max_rollbacks_per_hour:",
        (*PLANNING, "tests/fault/test_rollout_faults.py"),
    ),
    Mutant(
        "a forced push is followed",
        "reconciler/source/scrutiny.py",
        "for former in task.followed:",
        "for former in ():",
        ("tests/contract/test_source_contract.py",),
    ),
    Mutant(
        "a lost ledger forgets what was followed",
        "reconciler/planning/lineage.py",
        "return Lineage(tuple(sorted(found)), source.rewritten)",
        "return Lineage((), source.rewritten)",
        ("tests/fault/test_lineage_faults.py",),
    ),
    Mutant(
        "a signature of an expired key counts",
        "reconciler/source/signatures.py",
        "or GOOD not in said or not said.isdisjoint(BAD)",
        "",
        ("tests/unit/source/test_signatures.py",),
    ),
    Mutant(
        "deadlines run on while nobody looks",
        "reconciler/planning/standstill.py",
        "    if not draft.observed.blind:",
        "    if draft.observed.blind or not draft.observed.blind:",
        (*PLANNING, "tests/fault/test_engine_faults.py"),
    ),
    Mutant(
        "a start that just ended is begun again",
        "reconciler/engine/observe.py",
        "        changed = ports.supervisor.processes() is not self._processes\n        facts =",
        "        changed = ports.supervisor.processes() is not self._processes\n"
        "        stale = self._group(ports.supervisor.processes())\n        self._group = lambda _p: stale\n"
        "        facts =",
    ),
    Mutant(
        "a guest is stopped for a generation whose folder could not be written",
        "reconciler/planning/moves.py",
        'if draft.trouble(f"create/{standing.name}") is not None:',
        'if draft.trouble(f"create/{standing.name}") is draft:',
        ("tests/scenario/test_preflight.py",),
    ),
    Mutant(
        "what a failed write may have begun is not settled",
        "reconciler/engine/execute.py",
        "self._unbegun = tuple(EndIntent(name",
        "_ = tuple(EndIntent(name",
        ("tests/fault/test_storage_faults.py",),
    ),
    Mutant(
        "what a stop stands on is not looked for before it",
        "reconciler/engine/reconcile.py",
        "if needed and await ports.images.look(needed):",
        "if needed and not needed:",
        ("tests/fault/test_rollout_faults.py",),
    ),
    Mutant(
        "another guest's answer is health",
        "reconciler/probe/http.py",
        "if check.expect_instance and (stranger",
        "if not check and (stranger",
        ("tests/unit/probe",),
    ),
    Mutant(
        "the same trouble is told each time",
        "reconciler/notify/digest.py",
        "if told is not None and event.wall - told.last_wall < self._repeat:",
        "if told is not None and event.wall < 0:",
        NOTIFY,
    ),
    Mutant(
        "a sink's place in the events is not remembered",
        "reconciler/notify/courier.py",
        "await self._outbox.advance(self._name, sequence)",
        "await self._clock.sleep(0) if sequence < 0 else None",
        NOTIFY,
    ),
    Mutant(
        "a sink that hangs is waited for",
        "reconciler/notify/courier.py",
        "async with asyncio.timeout(DEADLINE):",
        "async with asyncio.timeout(None):",
        NOTIFY,
    ),
    Mutant(
        "a sink may send us elsewhere",
        "reconciler/notify/posting.py",
        "allow_redirects=False",
        "allow_redirects=True",
        NOTIFY,
    ),
    Mutant(
        "a commit may call a whole channel",
        "reconciler/notify/bodies.py",
        """return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")""",
        "return text",
        NOTIFY,
    ),
)
