"""Row 19 on a real disk that is full: the builder's own words are not asked, the disk is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.shows(row=19)

ROOT = Path(__file__).resolve().parents[2]
OWN_MOUNTS = ("unshare", "--user", "--map-root-user", "--mount")


def test_row_19_a_real_disk_that_a_builder_filled_is_told_and_has_room_after_a_collection(
    tmp_path: Path,
) -> None:
    if subprocess.run([*OWN_MOUNTS, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("this host allows no user namespaces")
    done = subprocess.run(
        [*OWN_MOUNTS, sys.executable, "-m", "tests.fault.image_child", tmp_path],
        cwd=ROOT, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["disk-full", "[]", "True"], done.stderr
