"""The guard around programs that leave their session: whatever ends it, nothing of theirs runs on."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from demo.processes import processes_under
from reconciler.children import program as children
from reconciler.children.process_tree import GRACE, TREE
from reconciler.errors import BuildUnavailable
from tests.eventually import eventually

pytestmark = pytest.mark.shows(row=45)

LEAVES = "setsid sh -c 'sleep 600 & (setsid sleep 600 &); exec sleep 600' & touch begun; "
GUARDED = (sys.executable, "-P", "-m", TREE, "sh", "-c")
CLOSED = """
import sys
from pathlib import Path
from reconciler.image.image_directory import ImageDirectory
with ImageDirectory(Path(sys.argv[1]), ("image",)).workspace("0" * 64) as folder:
    inner = folder / "content/closed/inner"
    inner.mkdir(parents=True)
    (inner / "file").touch()
    (folder / "content/link").symlink_to("/etc")
    for path in (inner, inner.parent, inner.parents[1]):
        path.chmod(0)
"""


def running(folder: Path) -> int:
    return len(processes_under(folder))


async def test_when_the_caller_gives_up_nothing_runs_any_more(tmp_path: Path) -> None:
    argv = (*GUARDED, f"{LEAVES} exec sleep 600")
    work = asyncio.create_task(children.run(argv, seconds=600, cwd=tmp_path, grace=GRACE))
    await eventually(lambda: running(tmp_path) >= 6)
    work.cancel()
    await asyncio.wait({work})
    assert running(tmp_path) == 0


async def test_after_a_deadline_nothing_runs_any_more(tmp_path: Path) -> None:
    argv = (*GUARDED, f"{LEAVES} exec sleep 600")
    with pytest.raises(BuildUnavailable):
        await children.run(argv, seconds=2, cwd=tmp_path, grace=GRACE)
    assert (tmp_path / "begun").exists()
    assert running(tmp_path) == 0


async def test_a_program_that_ignores_sigterm_is_no_reason_to_wait(tmp_path: Path) -> None:
    argv = (*GUARDED, f"trap '' TERM; {LEAVES} while :; do sleep 600; done")
    work = asyncio.create_task(children.run(argv, seconds=600, cwd=tmp_path, grace=600.0))
    await eventually(lambda: running(tmp_path) >= 6)
    work.cancel()
    await asyncio.wait({work})
    assert running(tmp_path) == 0


async def test_when_the_daemon_is_killed_all_of_it_ends(tmp_path: Path) -> None:
    code = "import subprocess, sys; subprocess.run(sys.argv[1:])"
    argv = (sys.executable, "-c", code, *GUARDED, f"{LEAVES} exec sleep 600")
    daemon = await asyncio.create_subprocess_exec(*argv, cwd=tmp_path)
    await eventually(lambda: running(tmp_path) >= 7)
    daemon.kill()
    await daemon.wait()
    await eventually(lambda: running(tmp_path) == 0)


async def test_when_the_process_above_the_guard_is_killed_the_guard_ends_all_of_it(
    tmp_path: Path,
) -> None:
    argv = (*GUARDED, f"{LEAVES} exec sleep 600")
    work = asyncio.create_task(children.run(argv, seconds=600, cwd=tmp_path))
    await eventually(lambda: running(tmp_path) >= 6)
    work.cancel()
    await asyncio.wait({work})
    await eventually(lambda: running(tmp_path) == 0)


async def test_its_status_is_the_programs_and_what_is_left_behind_ends(tmp_path: Path) -> None:
    ended = await children.run((*GUARDED, f"{LEAVES} exit 3"), seconds=60, cwd=tmp_path)
    assert ended.status == 3
    assert running(tmp_path) == 0


def test_folders_that_a_program_closed_are_removed_by_their_owner_without_further_rights(
    tmp_path: Path,
) -> None:
    """As the daemon is: uid 0 without a capability."""
    bare: tuple[str, ...] = ()
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("setpriv is missing")
        bare = ("setpriv", "--inh-caps=-all", "--bounding-set=-all")
    subprocess.run((*bare, sys.executable, "-c", CLOSED, tmp_path / "layers"), check=True)
    assert [*(tmp_path / "layers").iterdir()] == []
    assert Path("/etc").stat().st_mode & 0o777 != 0o700
