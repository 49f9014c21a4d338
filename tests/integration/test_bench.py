"""Every measurement that needs no guest works: one that is not taken for months may not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_GUESTS = ("idle", "commit", "push", "restart", "fleet", "page", "scrape", "images")

pytestmark = pytest.mark.integration


@pytest.mark.timeout(600)
def test_what_the_benchmarks_measure_without_guests_is_measured() -> None:
    argv = (sys.executable, "-m", "tests.bench", *WITHOUT_GUESTS, "--quick")
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "not measured" not in done.stdout, done.stderr + done.stdout
    assert done.returncode == 0, done.stderr + done.stdout
