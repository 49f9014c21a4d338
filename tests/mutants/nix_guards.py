"""The guards around runners that Nix makes: whose code runs here, who is told to end, what is kept."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

MUTANTS = (
    Mutant(
        "a repository may bring runners whatever the host says",
        "reconciler/source/manifests/policy_bounds.py",
        "    if not policy.runners:\n",
        "    if not policy:\n",
        ("tests/unit/source/test_runners.py",),
        after='yield Fault(at, "runners", "words")',
    ),
    Mutant(
        "a flake of elsewhere needs no leave",
        "reconciler/source/manifests/policy_bounds.py",
        "fnmatchcase(runner.flake, pattern) for pattern in policy.flakes",
        "fnmatchcase(runner.flake, pattern) for pattern in (*policy.flakes, '*')",
        ("tests/unit/source/test_runners.py",),
    ),
    Mutant(
        "a flake need not be locked",
        "reconciler/model/nix_runner.py",
        "    if LOCKED.search(value) is None:\n",
        "    if LOCKED.search(value) is None and not value:\n",
        ("tests/unit/source/test_parsing.py",),
    ),
    Mutant(
        "a runner that wants root is taken",
        "reconciler/image/nix_build.py",
        "        if (place / name).exists():\n",
        "        if (place / name).is_symlink():\n",
        ("tests/unit/image/test_nix.py",),
    ),
    Mutant(
        "nix is shown all of the daemon's environment",
        "reconciler/image/nix_program.py",
        "kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}",
        "kept = {name: os.environ[name] for name in os.environ}",
        ("tests/unit/image/test_nix.py",),
    ),
    Mutant(
        "a runner's shutdown is run for whoever has the folder now",
        "reconciler/supervisor/process_supervisor.py",
        "guest = next((guest for guest in alive if guest.process.pid == pid), None)",
        "guest = next(alive, None)",
        ("tests/contract/test_runners.py",),
    ),
)
