"""The systemd supervisor among strangers, and after deaths that it did not see."""

from __future__ import annotations

import contextlib
import fcntl
import signal
from collections.abc import AsyncIterator, Iterator
from os import geteuid
from pathlib import Path

import pytest

from reconciler.clock import SystemClock
from reconciler.errors import GuestConflict
from reconciler.supervisor.systemd import SystemdSupervisor
from tests.contract.vmms import EXITS_WITH_3, a_guest

pytestmark = pytest.mark.skipif(
    not Path("/run/systemd/system").is_dir() or geteuid() != 0,
    reason="no systemd here; tests/systemd runs this in a container",
)


@contextlib.asynccontextmanager
async def a_daemon(root: Path, *, ends_guests: bool = False) -> AsyncIterator[SystemdSupervisor]:
    """One daemon's life; it lets go of its guests, or ends them too."""
    supervisor = SystemdSupervisor(root, SystemClock(), lambda: None)
    await supervisor.adopt()
    try:
        yield supervisor
    finally:
        for process in supervisor.processes() if ends_guests else ():
            await supervisor.signal(process.instance, signal.SIGKILL)
            assert await supervisor.wait_gone(process.instance, 10)
            await supervisor.forget(process.instance)
        await supervisor.close()


@contextlib.contextmanager
def a_stranger_with_the_lock(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


async def test_a_stranger_with_the_lock_is_a_conflict_and_nothing_is_started(
    tmp_path: Path,
) -> None:
    with a_stranger_with_the_lock(tmp_path / "vms/web"):
        async with a_daemon(tmp_path / "vms") as supervisor:
            assert [conflict.vm for conflict in supervisor.conflicts()] == ["web"]
            with pytest.raises(GuestConflict):
                await supervisor.start(*a_guest(tmp_path / "vms"))
            assert supervisor.processes() == ()


async def test_a_unit_of_another_state_directory_is_left_alone(tmp_path: Path) -> None:
    here, there = tmp_path / "here/vms", tmp_path / "there/vms"
    async with a_daemon(here, ends_guests=True) as supervisor:
        process = await supervisor.start(*a_guest(here))
        async with a_daemon(there) as other:
            assert other.processes() == ()
            with pytest.raises(GuestConflict):
                await other.start(*a_guest(there))
        assert supervisor.processes() == (process,)
        assert process.alive


async def test_an_end_that_no_daemon_saw_tells_its_status(tmp_path: Path) -> None:
    root = tmp_path / "vms"
    async with a_daemon(root) as supervisor:
        process = await supervisor.start(*a_guest(root, EXITS_WITH_3))
        assert await supervisor.wait_gone(process.instance, 10)
    async with a_daemon(root, ends_guests=True) as later:
        (found,) = later.processes()
        assert found.instance == process.instance
        assert str(found.exit) == "exit status 3"


async def test_the_daemon_may_write_what_a_guest_may_not_replace(tmp_path: Path) -> None:
    root = tmp_path / "vms"
    writes = ("/bin/sh", "-c", "mv console.log old || touch new || echo kept >>console.log")
    async with a_daemon(root, ends_guests=True) as supervisor:
        process = await supervisor.start(*a_guest(root, writes))
        assert await supervisor.wait_gone(process.instance, 10)
        assert "kept" in (root / "web/console.log").read_text()
        assert not (root / "web/old").exists()
        assert not (root / "web/new").exists()
