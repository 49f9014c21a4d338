"""Starts the processes of a guest: its VMM, and its shutdown command.

The VMM inherits the VM's lock, leaves our session, and outlives the daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from reconciler.errors import SupervisorError
from reconciler.host import layout
from reconciler.model.machine import Launch, Machine
from reconciler.model.observed import Process
from reconciler.supervisor import console, guest_file, lock, procfs
from reconciler.untrusted_file import appending

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class ProcessHandle:
    """A process with a pidfd, which refers to it even after its pid is reused; -1: it ended."""

    process: Process
    pidfd: int


def spawn(folder: Path, machine: Machine, launch: Launch, boot_id: str) -> ProcessHandle:
    """Start a VMM that holds the VM's lock. Blocks for some milliseconds.

    Raises GuestConflict or SupervisorError.
    """
    try:
        layout.run(folder).mkdir(parents=True, exist_ok=True, mode=0o700)
        with lock.locked(folder) as descriptor:
            lock.refuse_listeners(folder)
            console.announce(folder, machine.instance, machine.generation)
            held = _start(folder, machine, launch, descriptor)
            guest_file.write(folder, held.process, boot_id)
    except OSError as error:
        raise SupervisorError(
            f"{machine.vm}: cannot start {launch.argv[0]}: {error.strerror or error}",
            kind="spawn",
            hint="is the program installed, and is there space in the state directory?",
        ) from error
    return held


def _start(folder: Path, machine: Machine, launch: Launch, descriptor: int) -> ProcessHandle:
    with fresh_log(layout.vmm_log(folder)) as log, appending(layout.console(folder)) as said:
        child = subprocess.Popen(
            launch.argv,
            cwd=launch.cwd,
            env=environment(machine, launch, folder, os.environ.get("PATH", DEFAULT_PATH)),
            stdin=subprocess.DEVNULL,
            stdout=said if launch.prints_console else log,
            stderr=log,
            pass_fds=(descriptor,),
            start_new_session=True,
        )
    # From here on the pidfd is used. Popen must believe that the process ended: otherwise it would
    # collect the exit status itself, and warn about a child that is still running.
    child.returncode = 0
    pidfd = os.pidfd_open(child.pid)
    stat = procfs.stat_of(child.pid)
    if stat is None:  # impossible: no one else reaps our children
        os.close(pidfd)
        raise SupervisorError(f"{machine.vm}: process {child.pid} vanished", kind="spawn")
    process = Process(
        vm=machine.vm,
        instance=machine.instance,
        generation=machine.generation,
        pid=child.pid,
        start_time=stat.start_time,
        started_boot=stat.started_boot,
        slot=machine.slot,
        hypervisor=machine.hypervisor,
    )
    return ProcessHandle(process, pidfd)


def fresh_log(path: Path) -> BinaryIO:
    """The VMM's log, opened for appending; the log of the previous start is kept beside it.

    Appending allows truncating it while the VMM writes.
    """
    with contextlib.suppress(FileNotFoundError):
        path.replace(path.with_name(f"{path.name}.1"))
    return appending(path)


def environment(machine: Machine, launch: Launch, folder: Path, path: str) -> dict[str, str]:
    """A minimal environment, with the markers by which a later daemon recognises the process."""
    return {
        "PATH": path,
        "LC_ALL": "C",
        **dict(launch.env),
        procfs.INSTANCE: machine.instance,
        procfs.GENERATION: str(machine.generation),
        procfs.HYPERVISOR: machine.hypervisor,
        procfs.FOLDER: str(folder),
    }


async def press(pid: int, folder: Path, button: Sequence[str], seconds: float) -> None:
    """Run a command that asks a guest to shut down, for at most `seconds`. Raises SupervisorError.

    Some commands wait for the guest's end; they are killed after the time, as the request was sent.
    """
    # MAINPID: the variable that systemd sets for an ExecStop=.
    env = {"PATH": os.environ.get("PATH", DEFAULT_PATH), "LC_ALL": "C", "MAINPID": str(pid)}
    try:
        child = await asyncio.create_subprocess_exec(
            *button,
            cwd=layout.volumes(folder),  # in which a runner has its sockets
            env=env,
            stdin=asyncio.subprocess.PIPE,  # held open: microvm.nix's command waits only as long as it is
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise SupervisorError(f"{button[0]}: {error.strerror}", kind="spawn") from error
    try:
        async with asyncio.timeout(seconds):
            status = await child.wait()
    except TimeoutError:
        return
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # its children too
        await child.wait()
    if status != 0:
        raise SupervisorError(f"{button[0]}: status {status}")
