"""One mutant on trial: a copy of the tree without the guard, and what the tests say of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.mutants.finding import Code, find, without
from tests.mutants.mutant import Mutant

ROOT = Path(__file__).resolve().parents[2]
PARTS = (
    *("reconciler", "tests", "demo", "manifests", "dashboards", "deploy", "docs"),
    *("pyproject.toml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "requirements.lock", "dev"),
)
MOST_SECONDS = 900
"""For the tests that a mutant names."""
ONE_TEST_SECONDS = 180
"""More than usual: several trees are tried at once, and only a mutant that hangs takes so long."""
SYSTEM_PROGRAMS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""mkfs and fsck are there, and a PATH of those who are not root lacks it."""
FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+\.py::\S.*?)(?: - .*)?$", re.MULTILINE)
NO_TEST_RAN = re.compile(r"ERROR collecting|INTERNALERROR|errors? during collection")

Outcome = Literal["killed", "survived", "proves nothing"]


@dataclass(frozen=True)
class Verdict:
    """`evidence` is the first test that failed, or what the tests printed when nothing is proven."""

    outcome: Outcome
    evidence: str = ""


def try_mutant(mutant: Mutant, code: Mapping[Path, Code], first: str = "") -> Verdict:
    """What the tests say without the guard; `first` is a test that noticed before, and is tried first.

    Raises NotFound.
    """
    place = find(mutant, code)
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        tree = copied_to(Path(folder))
        (tree / place.file).write_text(
            without(mutant, place, code[place.file].text), encoding="utf-8"
        )
        if first and (verdict := tests_say(tree, (first,))).outcome == "killed":
            return verdict
        return tests_in_turn_say(tree, mutant.tests)


def try_unchanged(tests: Sequence[str]) -> Verdict:
    """What the same tests say of the tree as it is; anything but `survived` means that no mutant proves anything."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        return tests_say(copied_to(Path(folder)), tests)


def copied_to(tree: Path) -> Path:
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, tree / part)
    return tree


def tests_in_turn_say(tree: Path, tests: Sequence[str]) -> Verdict:
    """One after the other: most mutants are noticed by the first, and only its tests are collected."""
    verdict = Verdict("proves nothing", "no tests are named")
    for path in tests:
        verdict = tests_say(tree, (path,))
        if verdict.outcome != "survived":
            break
    return verdict


def tests_say(tree: Path, tests: Sequence[str]) -> Verdict:
    """Of a tree; ended at the first test that fails."""
    pytest = (sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider")
    command = (*pytest, f"--timeout={ONE_TEST_SECONDS}", *tests)
    try:
        done = subprocess.run(
            command, cwd=tree, env=_environment(tree), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", check=False, timeout=MOST_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Verdict("proves nothing", f"the tests took more than {MOST_SECONDS} s")
    return judged(done.returncode, done.stdout + done.stderr)


def judged(code: int, said: str) -> Verdict:
    """Only a test that ran and failed proves something: a tree that cannot be imported does not."""
    if code == 0:
        return Verdict("survived")
    failed = FAILED.search(said)
    if code == 1 and failed and not NO_TEST_RAN.search(said):
        return Verdict("killed", failed[1])
    return Verdict("proves nothing", said[-3000:])


def _environment(tree: Path) -> dict[str, str]:
    path = os.pathsep.join((os.environ.get("PATH", "/usr/bin:/bin"), *SYSTEM_PROGRAMS))
    return {
        "PYTHONPATH": str(tree),
        "PATH": path,
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(tree),
    }
