"""The local supervisor among strangers, corpses and torn files."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.clock import SystemClock
from reconciler.endpoints import dial
from reconciler.errors import GuestConflict, SupervisorError
from reconciler.model.observed import Process
from reconciler.now import Now
from reconciler.supervisor import process_supervisor as keeper, procfs
from reconciler.supervisor.local import LocalSupervisor
from tests.contract.vmms import LIVES, a_guest
from tests.eventually import eventually

pytestmark = pytest.mark.shows(fault=45, row=13)

DAEMON = """
import asyncio, os, pathlib, sys
from reconciler.clock import SystemClock
from reconciler.supervisor.local import LocalSupervisor
from tests.contract.vmms import a_guest

async def main(root):
    supervisor = LocalSupervisor(root, SystemClock(), lambda: None)
    process = await supervisor.start(*a_guest(root))
    print(process.pid, process.instance, flush=True)
    os.kill(os.getpid(), 9)

asyncio.run(main(pathlib.Path(sys.argv[1])))
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "vms"


@contextlib.asynccontextmanager
async def a_daemon(root: Path) -> AsyncIterator[LocalSupervisor]:
    """One daemon's life; at its end it lets go of its guests."""
    supervisor = LocalSupervisor(root, SystemClock(), lambda: None)
    await supervisor.adopt()
    try:
        yield supervisor
    finally:
        await supervisor.close()


@pytest.fixture
async def guest(root: Path) -> AsyncIterator[Process]:
    """A guest that an earlier daemon started; it is killed at the end."""
    async with a_daemon(root) as supervisor:
        process = await supervisor.start(*a_guest(root))
        pidfd = os.pidfd_open(process.pid)
        # exec(2) is told as done a moment before the new environment can be read.
        await eventually(lambda: procfs.markers_of(process.pid))
    yield process
    end(pidfd)
    os.close(pidfd)


def facts_of(root: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((root / "web/run/guest.json").read_text())
    return facts


def write_facts(root: Path, text: str | bytes) -> None:
    path = root / "web/run/guest.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def end(pidfd: int, *, reap: bool = True) -> None:
    """Kill our child, which may be dead, and wait for it; without reaping it stays a zombie."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | (0 if reap else os.WNOWAIT))


@contextlib.contextmanager
def a_stranger_with_the_lock(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    (root / "web").mkdir(parents=True, exist_ok=True)
    with (root / "web/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stranger = subprocess.Popen(LIVES, pass_fds=(lock.fileno(),))
    try:
        yield stranger
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize(
    "torn",
    [b"", b"{", b"null", b"[]", b'{"pid": 1}', b"\xff\xfe", b"x" * 200_000, b'{"pid": "12"}'],
)
async def test_a_torn_note_does_not_hide_a_living_guest(
    root: Path, guest: Process, torn: bytes
) -> None:
    write_facts(root, torn)
    async with a_daemon(root) as supervisor:
        assert supervisor.processes() == (guest,)
        assert facts_of(root)["pid"] == guest.pid


async def test_a_missing_note_does_not_hide_a_living_guest(root: Path, guest: Process) -> None:
    (root / "web/run/guest.json").unlink()
    async with a_daemon(root) as supervisor:
        assert supervisor.processes() == (guest,)


async def test_a_note_of_an_earlier_guest_does_not_hide_the_living_one(
    root: Path, guest: Process
) -> None:
    write_facts(root, json.dumps({**facts_of(root), "pid": 2**22 - 1, "instance": "web-old"}))
    async with a_daemon(root) as supervisor:
        assert supervisor.processes() == (guest,)


@pytest.mark.parametrize("field", ["start_time", "instance", "boot_id"])
async def test_a_process_that_only_has_the_pid_is_not_taken_for_the_guest(
    root: Path, field: str
) -> None:
    innocent = subprocess.Popen(LIVES)  # noqa: ASYNC220
    try:
        async with a_daemon(root) as supervisor:
            process = await supervisor.start(*a_guest(root))
            await supervisor.signal(process.instance, signal.SIGKILL)
            assert await supervisor.wait_gone(process.instance, 5)
        odd = {"start_time": 1, "instance": "x", "boot_id": "another boot"}[field]
        write_facts(root, json.dumps({**facts_of(root), "pid": innocent.pid, field: odd}))
        async with a_daemon(root) as supervisor:
            (found,) = supervisor.processes()
            assert not found.alive
            await supervisor.signal(found.instance, signal.SIGKILL)
            assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


async def test_a_note_that_cannot_be_understood_of_a_dead_guest_is_no_guest(root: Path) -> None:
    write_facts(root, b"{")
    async with a_daemon(root) as supervisor:
        assert supervisor.processes() == ()
        assert supervisor.conflicts() == ()


async def test_a_stranger_with_the_lock_is_a_conflict_and_lives_on(root: Path) -> None:
    with a_stranger_with_the_lock(root) as stranger:
        async with a_daemon(root) as supervisor:
            (conflict,) = supervisor.conflicts()
            assert f"process {stranger.pid}" in conflict.what
            with pytest.raises(GuestConflict):
                await supervisor.start(*a_guest(root))
            assert supervisor.processes() == ()
        assert stranger.poll() is None


async def test_a_conflict_ends_when_the_stranger_goes(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "ROUND", 0.01)
    wakes = 0

    def wake() -> None:
        nonlocal wakes
        wakes += 1

    supervisor = LocalSupervisor(root, SystemClock(), wake)
    with a_stranger_with_the_lock(root):
        with pytest.raises(GuestConflict):
            await supervisor.start(*a_guest(root))
        assert len(supervisor.conflicts()) == 1
        assert wakes == 1
    running = asyncio.create_task(supervisor.run())
    await eventually(lambda: not supervisor.conflicts())
    assert wakes == 2
    running.cancel()
    await asyncio.wait([running])
    await supervisor.close()


async def test_a_stranger_who_listens_on_the_control_socket_is_a_conflict(root: Path) -> None:
    (root / "web/run").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind(str(root / "web/run/qmp.sock"))
        stranger.listen()
        async with a_daemon(root) as supervisor:
            assert [c.vm for c in supervisor.conflicts()] == ["web"]
            with pytest.raises(GuestConflict, match=r"qmp\.sock"):
                await supervisor.start(*a_guest(root))
        assert (root / "web/run/qmp.sock").exists()


@pytest.mark.parametrize("how", ["symlink", "hard link"])
async def test_a_socket_that_a_vmm_linked_to_anothers_is_no_conflict_and_leaves_the_other_alone(
    root: Path, how: str
) -> None:
    (root / "web/run").mkdir(parents=True)
    (root / "db/run").mkdir(parents=True)
    theirs, ours = root / "db/run/qmp.sock", root / "web/run/qmp.sock"
    with socket.socket(socket.AF_UNIX) as other, (root / "db/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        other.bind(str(theirs))
        other.listen()
        if how == "symlink":
            ours.symlink_to("../../db/run/qmp.sock")
        else:
            ours.hardlink_to(theirs)
        async with a_daemon(root) as supervisor:
            assert "web" not in {conflict.vm for conflict in supervisor.conflicts()}
            process = await supervisor.start(*a_guest(root))
            assert process.alive
            assert not ours.exists()
            await supervisor.signal(process.instance, signal.SIGKILL)
            assert await supervisor.wait_gone(process.instance, 10)
        dial(theirs).close()


async def test_the_socket_that_a_killed_vmm_left_behind_is_no_conflict(root: Path) -> None:
    (root / "web/run").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(root / "web/run/qmp.sock"))
    async with a_daemon(root) as supervisor:
        assert supervisor.conflicts() == ()


async def test_a_zombie_is_dead(root: Path) -> None:
    async with a_daemon(root) as supervisor:
        process = await supervisor.start(*a_guest(root))
    pidfd = os.pidfd_open(process.pid)
    end(pidfd, reap=False)
    async with a_daemon(root) as supervisor:
        (found,) = supervisor.processes()
        assert not found.alive
    end(pidfd)
    os.close(pidfd)


@pytest.mark.shows(fault=65)
async def test_a_guest_outlives_a_daemon_that_is_killed(root: Path) -> None:
    daemon = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DAEMON, str(root), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await asyncio.wait_for(daemon.communicate(), 20)
    assert daemon.returncode == -signal.SIGKILL
    pid, instance = said.decode().split()
    async with a_daemon(root) as supervisor:
        (found,) = supervisor.processes()
        assert (found.pid, found.instance, found.alive) == (int(pid), instance, True)
        # Whoever is given the orphans learns how they ended: init, or the test itself as PID 1.
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        known = "killed by signal 9" if parent == os.getpid() else "exit status unknown"
        await supervisor.signal(found.instance, signal.SIGKILL)
        assert await supervisor.wait_gone(found.instance, 5)
        (dead,) = supervisor.processes()
        assert str(dead.exit) == known
        # Init may not have reaped it yet, and still the VM can be started again.
        process = await supervisor.start(*a_guest(root))
        await supervisor.signal(process.instance, signal.SIGKILL)
        assert await supervisor.wait_gone(process.instance, 5)


async def test_guests_of_another_state_directory_are_not_ours(root: Path, tmp_path: Path) -> None:
    async with a_daemon(root) as supervisor:
        process = await supervisor.start(*a_guest(root))
        async with a_daemon(tmp_path / "other") as other:
            assert other.processes() == ()
        await supervisor.signal(process.instance, signal.SIGKILL)
        assert await supervisor.wait_gone(process.instance, 5)


async def test_a_reboot_turns_every_guest_into_a_dead_one(root: Path, guest: Process) -> None:
    class AfterReboot(SystemClock):
        def now(self) -> Now:
            now = super().now()
            return Now(now.boot, now.wall, "the next boot")

    pidfd = os.pidfd_open(guest.pid)
    end(pidfd)
    os.close(pidfd)
    supervisor = LocalSupervisor(root, AfterReboot(), lambda: None)
    await supervisor.adopt()
    (found,) = supervisor.processes()
    assert not found.alive
    await supervisor.close()


async def test_a_full_disk_starts_nothing(root: Path) -> None:
    (root / "web").mkdir(parents=True)
    (root / "web/console.log").mkdir()  # cannot be written, whoever asks
    async with a_daemon(root) as supervisor:
        with pytest.raises(SupervisorError) as caught:
            await supervisor.start(*a_guest(root))
        assert caught.value.hint
        assert supervisor.processes() == ()


async def test_folders_with_odd_names_are_passed_over(root: Path, tmp_path: Path) -> None:
    for name in (".hidden", "UPPER", "a b"):
        (root / name).mkdir(parents=True)
    (root / "file").touch()
    (root / "link").symlink_to(tmp_path)
    async with a_daemon(root) as supervisor:
        assert supervisor.processes() == ()
        assert supervisor.conflicts() == ()


async def test_the_console_of_a_living_guest_is_bounded(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "ROUND", 0.01)
    supervisor = LocalSupervisor(root, SystemClock(), lambda: None, console_bytes=10_000)
    process = await supervisor.start(*a_guest(root))
    log = root / "web/console.log"
    with log.open("ab") as console:
        console.write(b"x" * 25_000 + b"the end\n")
        console.flush()
        running = asyncio.create_task(supervisor.run())
        await eventually(lambda: log.stat().st_size == 0)
        console.write(b"after\n")
    running.cancel()
    await asyncio.wait([running])
    assert log.read_bytes() == b"after\n"
    kept = (root / "web/console.log.1").read_bytes()
    assert len(kept) == 10_000
    assert kept.endswith(b"the end\n")
    await supervisor.signal(process.instance, signal.SIGKILL)
    assert await supervisor.wait_gone(process.instance, 5)
    await supervisor.close()
