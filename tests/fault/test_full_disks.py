"""Row 19 at every step of every input: on each disk that is too small a build says so and leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fault.full_disk_child import INPUTS
from tests.registry.images import program

pytestmark = [pytest.mark.shows(row=19), pytest.mark.timeout(180)]

ROOT = Path(__file__).resolve().parents[2]
OWN_MOUNTS = ("unshare", "--mount") if os.geteuid() == 0 else (
    "unshare", "--user", "--map-root-user", "--mount"
)  # fmt: skip
NEEDED = {
    "archive": ("umoci", "skopeo"), "docker_archive": ("umoci", "skopeo"), "layout": ("umoci",),
    "registry": ("umoci", "skopeo", "docker-registry"), "disk": ("qemu-img",), "seed": ("xorriso",),
}  # fmt: skip
FEWEST = 5
"""Disks that were too small for it, or its steps were not looked at."""


@pytest.mark.parametrize("name", INPUTS)
def test_on_a_disk_that_is_too_small_a_build_says_so_and_nothing_of_it_is_believed_or_left(
    tmp_path: Path, name: str
) -> None:
    for needed in NEEDED.get(name, ()):
        program(needed)
    if subprocess.run([*OWN_MOUNTS, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("this host allows no mounts of one's own")
    done = subprocess.run(
        [*OWN_MOUNTS, sys.executable, "-m", "tests.fault.full_disk_child", name, tmp_path],
        cwd=ROOT, capture_output=True, text=True, timeout=170, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    disks: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    small = [disk for disk in disks if not disk["there"]]
    assert len(small) >= FEWEST
    assert [disk for disk in small if disk["kind"] != "disk-full" or disk["failed"]] == []
    assert [disk for disk in small if not disk["error"] or not disk["hint"]] == []
    assert [disk for disk in small if disk["left"] or disk["believed"]] == []
    assert [disk for disk in disks if disk["there"] and not disk["believed"]] == []
