"""Locks that end with their holder, and sockets in folders: how processes of one host find each other."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path


def is_held(lock: Path) -> bool:
    """Whether a process holds this lock; a missing file is not held. Raises OSError.

    Testing takes a shared lock for a moment, so processes that want the lock must try more than once.
    """
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextlib.contextmanager
def short_address(path: Path) -> Iterator[str]:
    """A short address of a socket, valid inside the context: sun_path has only 107 bytes. Raises OSError."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def dial(path: Path) -> socket.socket:
    """A connected, non-blocking socket. Raises OSError.

    A stopped peer still accepts connections; a full backlog fails at once with EAGAIN.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        with short_address(path) as address:
            sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock
