"""Guards of VMMs: whose driver talks to a guest, and what a VMM is asked for."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

GUEST_FILE = ("tests/unit/supervisor/test_guest_file.py",)

MUTANTS = (
    Mutant(
        "the driver of a living guest is guessed although it was written down",
        "reconciler/supervisor/guest_file.py",
        "    if said:\n        return said\n",
        "    if not said:\n        return DEFAULT\n",
        GUEST_FILE,
    ),
    Mutant(
        "a Nix runner of an earlier version is taken for a guest of the default VMM",
        "reconciler/supervisor/guest_file.py",
        "return NIX_RUNNER if found.machine.runner else DEFAULT",
        "return DEFAULT if found.machine.runner else DEFAULT",
        GUEST_FILE,
    ),
    Mutant(
        "a guest of an unknown VMM is handed to the default driver",
        "reconciler/vmm/registry.py",
        "return self._drivers[hypervisor]",
        "return self._drivers.get(hypervisor, self._drivers[DEFAULT])",
        ("tests/contract/test_drivers.py",),
    ),
    Mutant(
        "a handover is accepted from a VMM that cannot change its ports",
        "reconciler/source/manifests/policy_bounds.py",
        "if spec.handed_over and not can.open_ports:",
        "if spec.handed_over and not can.taps:",
        ("tests/unit/source/test_capabilities.py",),
    ),
)
