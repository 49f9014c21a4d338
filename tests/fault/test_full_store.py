"""Row 19 on a real disk that is full: the builder's own words are not asked, the disk is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.registry.images import program

pytestmark = pytest.mark.shows(row=19)

ROOT = Path(__file__).resolve().parents[2]
OWN_MOUNTS = ("unshare", "--user", "--map-root-user", "--mount")


def test_row_19_a_real_disk_that_a_builder_filled_is_told_and_has_room_after_a_collection(
    tmp_path: Path,
) -> None:
    assert said_on_a_small_disk("tests.fault.image_child", tmp_path) == ["disk-full", "[]", "True"]


def test_row_19_a_build_that_writes_without_end_leaves_room_for_guests_and_the_ledger(
    tmp_path: Path,
) -> None:
    said = said_on_a_small_disk("tests.fault.reserve_child", tmp_path)
    assert said == ["disk-full", "True", "True"]


def test_row_19_a_pull_that_does_not_fit_on_the_disk_ends_before_the_disk_is_full_or_says_that_it_is(
    tmp_path: Path,
) -> None:
    program("skopeo")
    said = said_on_a_small_disk("tests.fault.pull_child", tmp_path)
    assert said == ["disk-full", "False", "disk-full", "True"]


def said_on_a_small_disk(module: str, folder: Path) -> list[str]:
    if subprocess.run([*OWN_MOUNTS, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("this host allows no user namespaces")
    done = subprocess.run(
        [*OWN_MOUNTS, sys.executable, "-m", module, folder],
        cwd=ROOT, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_disk_that_a_download_or_a_script_filled_is_told_and_has_its_space_back(
    tmp_path: Path,
) -> None:
    if subprocess.run([*OWN_MOUNTS, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("this host allows no user namespaces")
    done = subprocess.run(
        [*OWN_MOUNTS, sys.executable, "-m", "tests.fault.files_child", tmp_path],
        cwd=ROOT, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["disk-full", "disk-full", "True", "0"], done.stderr
