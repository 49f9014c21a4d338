"""The lock of one VM: an flock that the VMM itself holds, so that it ends exactly with the VMM.

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


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Take the lock, and give up our own copy of it at the end.

    Raises GuestConflict when somebody else holds it.
    """
    # O_CLOEXEC is Python's default: only the VMM, which asks for it, inherits the descriptor.
    # At a high number, as a VMM's script may use low ones as if they were free.
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
    """Whether nobody holds the lock. Raises OSError."""
    return not is_held(layout.lock(folder))


def taken(folder: Path) -> GuestConflict:
    return GuestConflict(
        f"somebody else holds {layout.lock(folder)}",
        hint="find the process with `fuser lock`; it is not ours to kill",
    )


def refuse_listeners(folder: Path) -> None:
    """Raise GuestConflict when somebody listens on a socket in `run/`, though the lock is free.

    A VMM would silently replace the socket, and the stranger's guest would be out of reach. A VMM makes
    sockets and no links: one that leads elsewhere was left by a VMM that was taken over, so that its VM
    would be in conflict with another's guest for ever. It is removed; where it led is not concerned.
    """
    for path in sorted(layout.run(folder).glob("*.sock")):
        if is_link(path):
            path.unlink(missing_ok=True)
        elif _listens(path):
            raise GuestConflict(
                f"somebody listens on {path}, but does not hold the VM's lock",
                hint="find the process with `fuser`; it is not ours to kill",
            )


def is_link(path: Path) -> bool:
    """Whether it leads to, or is, something that has a name of its own elsewhere. Raises OSError."""
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


FREE_ATTEMPTS, FREE_EVERY = 200, 0.005
"""How often, and after how many seconds, the lock is looked at again after who held it was killed."""


def kill_helpers(folder: Path, instance: str) -> int:
    """Kill the helpers of a guest that is gone; how many. Blocks; raises OSError.

    Only what carries the marks of exactly this guest: it is ours, and no guest any more.
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
    """Whether nobody holds the lock, in a moment at the latest. Blocks; raises OSError."""
    for _ in range(FREE_ATTEMPTS):
        if is_free(folder):
            return True
        time.sleep(FREE_EVERY)
    return False
