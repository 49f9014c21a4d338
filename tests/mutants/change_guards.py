"""Guards of what changes VMs and hosts: repairs, renames, cancelled builds, ways back, volumes that grow."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

MUTANTS = (
    Mutant(
        "a new VM starts empty though its movedFrom names nobody",
        "reconciler/planning/steps/rename.py",
        "if spec.moved_from is not None and not _never_began(spec.moved_from, desired, record)",
        "if spec.moved_from is not None and spec.moved_from in record.vms and not record.vms",
    ),
    Mutant(
        "a VM is removed though a movedFrom that names nobody may mean it",
        "reconciler/planning/steps/prune.py",
        "    if plan.refused_renames:\n",
        "    if plan.refused_renames and not removals:\n",
    ),
    Mutant(
        "a canary may come after a member that waits for it",
        "reconciler/source/manifests/crosscheck.py",
        "found[vm.what.name] = (*after, canaries) if waits else after",
        "found[vm.what.name] = after",
        ("tests/unit/source/test_order.py",),
    ),
    Mutant(
        "a revision has as many problems as it likes",
        "reconciler/source/manifests/declarations.py",
        "        return self._most - len(self.problems)\n",
        "        return self._most + len(self.problems)\n",
        ("tests/unit/source/test_bounded_work.py",),
    ),
    Mutant(
        "repairs are bounded by nothing but the group",
        "reconciler/planning/rollout/repair_budget.py",
        "if total >= limit:",
        "if total < 0:",
    ),
    Mutant(
        "a group's budget does not bound repairs",
        "reconciler/planning/rollout/repair_budget.py",
        "if under_way[group] and self._out[group] >= budget:",
        "if under_way[group] < 0:",
    ),
    Mutant(
        "a host on which most fail at once is not suspect",
        "reconciler/planning/rollout/repair_budget.py",
        "if ill < TOO_MANY or 2 * ill <= len(proven):",
        "if ill < TOO_MANY or len(proven):",
    ),
    Mutant(
        "a port that another VM may have to go back to is free for all",
        "reconciler/planning/preflight/host_ports.py",
        "elif wanted not in proven and (other := book.needs_back(wanted, vm.name)):",
        "elif wanted in proven and (other := book.needs_back(wanted, vm.name)):",
    ),
    Mutant(
        "a VM that was renamed is removed",
        "reconciler/planning/steps/prune.py",
        "absent = [s for s in absent if s.record.moving is None and s.name not in named]",
        "absent = [s for s in absent if s.record.moving is None]",
    ),
    Mutant(
        "a move that was begun is forgotten when something else is desired",
        "reconciler/planning/planner.py",
        "        elif vm.record.moving is not None:\n            resume(plan, vm)\n",
        "",
    ),
    Mutant(
        "a folder is moved onto what lies there already",
        "reconciler/vmm/generation_folders.py",
        "            if _holds(target):\n",
        "            if not target:\n",
        ("tests/contract/test_generations.py",),
    ),
    Mutant(
        "an old snapshot is the way back of a new trial",
        "reconciler/planning/preflight/snapshots.py",
        'if snapshot is not None and snapshot.state == "taken":',
        'if snapshot is not None and snapshot.state in ("taken", "restored"):',
    ),
    Mutant(
        "a build that others want is cancelled",
        "reconciler/planning/preflight/image_builds.py",
        "for key in sorted(running - named(plan, plan.desired)):",
        "for key in sorted(running):",
    ),
    Mutant(
        "a cancelled build leaves its intent open",
        "reconciler/engine/workers.py",
        '                self._ended.append(EndIntent(intent, "cancelled"))\n',
        "                pass\n",
        ("tests/fault/test_overtaking_faults.py",),
    ),
    Mutant(
        "any kept digest waits for nobody, also one that never was committed",
        "reconciler/model/record.py",
        'if generation.verdict == "committed" and generation.digest == digest:',
        "if generation.digest == digest:",
        ("tests/fault/test_overtaking_faults.py", "tests/scenario"),
    ),
    Mutant(
        "a volume may be asked to shrink",
        "reconciler/planning/rollout/targets.py",
        "if good is not None and (shrunken := _shrunken(good.spec, spec)):",
        "if good is None and (shrunken := _shrunken(spec, spec)):",
    ),
    Mutant(
        "a volume grows under a guest",
        "reconciler/vmm/volumes/growth.py",
        "        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
        "",
        ("tests/unit/vmm/test_volumes.py",),
        after="yield\nexcept BlockingIOError as error:\n hint = ",
    ),
    Mutant(
        "a growth that was cut short is forgotten",
        "reconciler/vmm/volumes/growth.py",
        "return not _mark(path).exists() and not _wanted(path, size)",
        "return not _wanted(path, size)",
        ("tests/unit/vmm/test_volumes.py",),
    ),
    Mutant(
        "a guest that was not ready goes back to what it was when it is stopped for its repair",
        "reconciler/planning/rollout/gates.py",
        "or (vm.guest is None and record.unready is not None)",
        "or (vm.guest is None and record.unready is None)",
        ("tests/scenario/test_readiness.py",),
    ),
    Mutant(
        "the illness of a guest that is stopped for its repair counts for nothing",
        "reconciler/planning/steps/next_step.py",
        "    if gated:\n        note_illness(plan, vm)\n",
        "",
        ("tests/scenario/test_readiness.py",),
    ),
    Mutant(
        "guests that are only not ready take a change past their canary",
        "reconciler/planning/rollout/gates.py",
        "(_broken(vm) and not _only_unready(vm))",
        "_broken(vm)",
        ("tests/scenario/test_readiness.py",),
    ),
    Mutant(
        "a VM is removed though the host is suspended",
        "reconciler/planning/steps/prune.py",
        "if not begun and suspended(plan, vm):",
        "if begun and suspended(plan, vm):",
        ("tests/scenario/test_verbs.py",),
    ),
    Mutant(
        "a burst of pushes is no burst any more after half a minute",
        "reconciler/planning/rollout/bursts.py",
        "(known.burst.passed(plan.now) and followed)",
        "(known.burst.passed(plan.now) and not followed)",
        ("tests/scenario/test_bursts.py",),
    ),
)
