"""`./dev mutants`: take each guard out of a copy of the tree; a mutant that no test notices is a hole."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from tests.mutants.beside import BESIDE
from tests.mutants.change_guards import MUTANTS as CHANGES
from tests.mutants.guards import MUTANTS as GUARDS, Mutant
from tests.mutants.nix_guards import MUTANTS as NIX
from tests.mutants.page_guards import MUTANTS as PAGE
from tests.mutants.tap_guards import MUTANTS as TAPS

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("reconciler", "tests", "demo", "manifests", "pyproject.toml", "README.md")
MOST_SECONDS = 300
MUTANTS = (*GUARDS, *CHANGES, *BESIDE, *PAGE, *NIX, *TAPS)


def survives(mutant: Mutant) -> bool:
    """Whether the tests pass without the guard."""
    return tests_without(mutant).returncode == 0


def tests_without(mutant: Mutant) -> subprocess.CompletedProcess[str]:
    """What its tests, ended at the first that fails, say without the guard."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        tree = Path(folder)
        for part in PARTS:
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy(source, tree / part)
        target = tree / mutant.file
        text = target.read_text(encoding="utf-8")
        if mutant.guard != mutant.gone and text.count(mutant.guard) != 1:
            raise SystemExit(f"{mutant.name}: its guard is not once in {mutant.file}")
        target.write_text(text.replace(mutant.guard, mutant.gone), encoding="utf-8")
        command = (sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider")
        return subprocess.run(
            (*command, *mutant.tests), cwd=tree, env={"PYTHONPATH": str(tree), "PATH": "/usr/bin:/bin"},
            capture_output=True, text=True, errors="replace", check=False, timeout=MOST_SECONDS,
        )  # fmt: skip


CONTROL = Mutant("nothing is changed", "README.md", "#", "#", ())


def main() -> int:
    every = tuple(sorted({folder for mutant in MUTANTS for folder in mutant.tests}))
    unchanged = tests_without(replace(CONTROL, tests=every))
    if unchanged.returncode:
        sys.stdout.write(unchanged.stdout)
        sys.stdout.write("the tests fail on the tree as it is: nothing is proven\n")
        return 1
    with ThreadPoolExecutor(max_workers=2) as pool:
        alive = list(pool.map(survives, MUTANTS))
    for mutant, survived in zip(MUTANTS, alive, strict=True):
        sys.stdout.write(f"{'SURVIVED' if survived else 'killed  '}  {mutant.name}\n")
    sys.stdout.write(f"{len(MUTANTS)} mutants, {alive.count(True)} survived\n")
    return 1 if any(alive) else 0


if __name__ == "__main__":
    sys.exit(main())
