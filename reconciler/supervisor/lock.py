"""The lock of one VM: an flock that the VMM itself holds, so that it ends exactly with the VMM.

An flock belongs to the open file description. The supervisor opens and locks it, the VMM inherits
the descriptor, and the supervisor closes its own copy: the daemon's death changes nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from reconciler.errors import GuestConflict

LOCK = "lock"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Take the lock, and give up our own copy of it at the end.

    Raises GuestConflict when somebody else holds it.
    """
    # O_CLOEXEC is Python's default: only the VMM, which asks for it, inherits the descriptor.
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise GuestConflict(
                f"somebody else holds {folder / LOCK}",
                hint="find the process with `fuser lock`; it is not ours to kill",
            ) from error
        yield descriptor
    finally:
        os.close(descriptor)


def is_free(folder: Path) -> bool:
    """Whether nobody holds the lock. Takes a shared lock for a moment to find out."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def refuse_listeners(folder: Path) -> None:
    """Raise GuestConflict when somebody listens on a socket in `run/`, though the lock is free.

    A VMM would silently replace the socket, and the stranger's guest would be out of reach.
    """
    for path in sorted(folder.glob("run/*.sock")):
        if _listens(path):
            raise GuestConflict(
                f"somebody listens on {path}, but does not hold the VM's lock",
                hint="find the process with `fuser`; it is not ours to kill",
            )


def _listens(path: Path) -> bool:
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
            # Through /proc, as sun_path holds 107 bytes.
            probe.connect(f"/proc/self/fd/{directory}/{path.name}")
    except BlockingIOError:
        return True  # its backlog is full
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(directory)
