"""How processes of one host find each other: a lock that lives with its holder, a socket in a folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path


def is_held(lock: Path) -> bool:
    """Whether somebody holds this lock; nobody does where there is no such file.

    Takes a shared lock for a moment to find out: who wants it whole tries more than once. Raises OSError.
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
    """The same socket's address, short enough, for as long as this lasts: sun_path holds 107 bytes."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def dial(path: Path) -> socket.socket:
    """A connected socket that does not block. Raises OSError.

    A peer that is stopped still accepts; a full backlog is EAGAIN at once.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        with short_address(path) as address:
            sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock
