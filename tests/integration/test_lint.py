"""`./dev lint`, which continuous integration runs, refuses what has a wrong type."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
MADE = (".venv", ".cache", ".git", "__pycache__", ".hypothesis", ".pytest_cache", "results", "dist")
"""At the top of a checkout, and compiled files anywhere."""
PLANTED = "\n\ndef planted() -> int:\n    return str(1)\n"


def made_here(folder: str, names: list[str]) -> set[str]:
    top = Path(folder) == ROOT
    return {name for name in names if (top and name in MADE) or name == "__pycache__"}


@pytest.mark.shows(fault=112)
def test_a_planted_type_error_fails_the_lint(tmp_path: Path) -> None:
    tree = tmp_path / "checkout"
    shutil.copytree(ROOT, tree, ignore=made_here)
    (tree / ".cache").mkdir()
    (tree / ".venv").symlink_to(sys.prefix)
    dev = tree / "dev"
    # What the tools need is installed already: by the run of this very test.
    dev.write_text(dev.read_text().replace("\ncommand=$", "\nsetup() { :; }\ncommand=$", 1))
    with (tree / "reconciler/endpoints.py").open("a") as module:
        module.write(PLANTED)
    ran = subprocess.run(
        [dev, "lint"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert ran.returncode == 1
    assert "reconciler/endpoints.py" in ran.stdout
    assert "Incompatible return value type" in ran.stdout
    assert "dev: failed: mypy;" in ran.stderr
