"""The lock of one VM: an flock that the VMM itself holds, so that it is released exactly when the VMM ends.

An flock belongs to the open file description. The supervisor opens and locks it, the VMM inherits
the descriptor, and the supervisor closes its own copy: the daemon's death changes nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from reconciler.endpoints import dial, is_held
from reconciler.errors import GuestConflict
from reconciler.host import layout
from reconciler.supervisor import procfs
from reconciler.supervisor.locked_exec import high

FREE_ATTEMPTS, FREE_EVERY = 200, 0.005
"""How often the lock is tested after its holder was killed, and the pause in seconds."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Take the lock, and close our own descriptor of it at the end.

    Raises GuestConflict if another process holds it, and OSError.
    """
    # O_CLOEXEC is Python's default: only the VMM, which asks for it, inherits the descriptor.
    # At a high number, because a VMM's script may use low ones as if they were free.
    descriptor = high(os.open(layout.lock(folder), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise taken(folder) from error
        yield descriptor
    finally:
        os.close(descriptor)


def is_free(folder: Path) -> bool:
    """Whether no process holds the lock. Raises OSError."""
    return not is_held(layout.lock(folder))


def taken(folder: Path) -> GuestConflict:
    """The error for a lock that another process holds."""
    return GuestConflict(
        f"another process holds {layout.lock(folder)}",
        hint="find the process with `fuser lock`; it is not ours to kill",
    )


def refuse_listeners(folder: Path) -> None:
    """Raise GuestConflict if a process listens on a socket in `run/` although the lock is free.

    A VMM would silently replace the socket, and the other process's guest would be unreachable. VMMs
    create sockets and no links, so a link was planted by a compromised VMM to put this VM in permanent
    conflict with another's guest: it is removed, and its target left alone.
    """
    for path in sorted(layout.run(folder).glob("*.sock")):
        if is_link(path):
            path.unlink(missing_ok=True)
        elif _listens(path):
            raise GuestConflict(
                f"a process listens on {path}, but does not hold the VM's lock",
                hint="find the process with `fuser`; it is not ours to kill",
            )


def is_link(path: Path) -> bool:
    """Whether a path is a symbolic link, or a file with another name elsewhere. Raises OSError."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISLNK(found.st_mode) or found.st_nlink > 1


def _listens(path: Path) -> bool:
    try:
        dial(path).close()
    except BlockingIOError:
        return True  # its backlog is full
    except OSError:
        return False
    return True


def kill_helpers(folder: Path, instance: str) -> int:
    """Kill the helpers of a guest that ended; returns how many. Blocks. Raises OSError.

    Only processes with the markers of exactly this guest are killed: they are ours, and no guests.
    """
    killed = 0
    for marked in procfs.marked_processes():
        ours = marked.environ.get(procfs.FOLDER) == str(folder)
        if not ours or marked.environ[procfs.INSTANCE] != instance:
            continue
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(marked.pid)
            try:
                if procfs.markers_of(marked.pid).get(procfs.INSTANCE) == instance:
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                    killed += 1
            finally:
                os.close(pidfd)
    return killed


def wait_until_free(folder: Path) -> bool:
    """Wait at most a second for the lock; returns whether it is free. Blocks. Raises OSError."""
    for _ in range(FREE_ATTEMPTS):
        if is_free(folder):
            return True
        time.sleep(FREE_EVERY)
    return False
