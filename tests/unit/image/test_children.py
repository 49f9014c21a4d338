"""Programs we run: their deadline, their output, and the end of their whole group."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from reconciler.children import program as children
from reconciler.errors import BuildUnavailable
from tests.eventually import eventually

pytestmark = pytest.mark.shows(row=45)


async def test_a_program_that_is_missing_is_said_so() -> None:
    with pytest.raises(BuildUnavailable) as failure:
        await children.run(("no-such-program",), seconds=5)
    assert failure.value.kind == "missing-program"


async def test_a_program_past_its_deadline_is_ended_with_what_it_started(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    argv = ("sh", "-c", f"sleep 600 & echo $! > {pid_file}; wait")
    with pytest.raises(BuildUnavailable, match="sh: was not done"):
        await children.run(argv, seconds=0.5)
    grandchild = Path("/proc", pid_file.read_text().strip(), "stat")

    def gone() -> bool:
        return not grandchild.exists() or ") Z " in grandchild.read_text()

    await eventually(gone)


async def test_what_a_program_left_behind_is_ended_too(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    argv = ("sh", "-c", f"sleep 600 & echo $! > {pid_file}")
    with pytest.raises(BuildUnavailable, match="sh: was not done"):
        await children.run(argv, seconds=0.5)
    left = Path("/proc", pid_file.read_text().strip(), "stat")
    await eventually(lambda: not left.exists() or ") Z " in left.read_text())


async def test_the_end_of_an_endless_output_is_kept() -> None:
    ended = await children.run(("sh", "-c", "seq 1 500000; echo last"), seconds=20)
    assert len(ended.output) == children.MOST_OUTPUT_BYTES
    assert ended.tail.endswith("500000\nlast")


async def test_a_failure_carries_what_the_program_said() -> None:
    with pytest.raises(BuildUnavailable, match="sh: status 3: no such luck"):
        await children.check(("sh", "-c", "echo no such luck >&2; exit 3"), seconds=5)


async def test_a_program_that_reads_nothing_is_no_failure() -> None:
    child = await children.Child.start(("true",), takes_input=True)
    assert (await child.finish(5, b"x" * 1_000_000)).status == 0


async def test_cancelling_ends_the_program() -> None:
    child = await children.Child.start(("sleep", "600"))
    waiting = asyncio.create_task(child.finish(600))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not child.alive
