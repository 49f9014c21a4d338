"""Guards of results and of what counts as healthy: whose fault it is, and what follows from a check."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

RESULTS = ("tests/scenario/test_results.py",)
READINESS = ("tests/scenario/test_readiness.py", "tests/scenario/test_up.py")
HOST = ("tests/scenario/test_host_trouble.py",)
CHECKS = ("tests/scenario/test_check_trials.py", "tests/scenario/test_check_trials_of_groups.py")

MUTANTS = (
    Mutant(
        "a failed check of readiness restarts the guest",
        "reconciler/planning/guest_health.py",
        "alive = health.liveness",
        "alive = health",
        READINESS,
    ),
    Mutant(
        "a guest without checks is healthy though its application ended",
        "reconciler/planning/guest_health.py",
        "said = guest.said\n    if said.ended:",
        "said = guest.said\n    if said.ended and policy is None:",
        READINESS,
    ),
    Mutant(
        "a guest that can say that it is up need not say it",
        "reconciler/planning/guest_health.py",
        "return None if guest.announces else guest.process.started_boot",
        "return None if policy is None else guest.process.started_boot",
        READINESS,
    ),
    Mutant(
        "a repair stops a guest that changed checks are tried on",
        "reconciler/planning/steps/next_step.py",
        "if checktrial.spared(plan, vm) or not",
        "if not",
        CHECKS,
    ),
    Mutant(
        "a revision answers for VMs that a newer one changed",
        "reconciler/planning/results/revision_results.py",
        "vms = tuple(n for n in one.vms if n not in taken)",
        "vms = one.vms",
        RESULTS,
    ),
    Mutant(
        "a revision that changes checks alone changes nothing",
        "reconciler/planning/results/revision_results.py",
        "old.digest != new.digest or old.health != new.health",
        "old.digest != new.digest",
        RESULTS,
    ),
    Mutant(
        "a former name that is put right changes no VM",
        "reconciler/planning/results/revision_results.py",
        "if old is None or old.moved_from != new.moved_from:",
        "if old is None:",
        RESULTS,
    ),
    Mutant(
        "a revision that failed is applied once its failed VM is changed again",
        "reconciler/planning/results/revision_results.py",
        "(one.result in FINAL and taken.intersection(one.blamed))",
        "(one.result in FINAL and not taken)",
        RESULTS,
    ),
    Mutant(
        "a VM has converged though its guest is not healthy",
        "reconciler/planning/results/vm_results.py",
        'return not leaves and judge(guest, good.spec.health, fleet.now) == "healthy"',
        "return not leaves",
        RESULTS,
    ),
    Mutant(
        "trouble of the host condemns what it kept from starting",
        "reconciler/planning/intake/outcomes.py",
        "return end is not None and bool(end.host_fault)",
        "return end is None and bool(guest)",
        HOST,
    ),
)
