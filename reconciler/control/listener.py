"""The unix socket of the control API: never taken from a live daemon, closed to others from the start."""

from __future__ import annotations

import asyncio
import pwd
import socket
import stat
import struct
from pathlib import Path

from aiohttp import web

from reconciler.errors import ConfigError

MODE = 0o660
BACKLOG = 128
LIVENESS_SECONDS = 2.0
"""A daemon that does not even take a connection for so long is still not dead."""


def claim(path: Path) -> socket.socket:
    """A listening socket at `path`; what a dead daemon left there is replaced.

    It is made under another name and renamed, so no client meets it closed or with another mode.
    Raises ConfigError, also if a live daemon listens there.
    """
    staged = path.with_name(path.name + ".new")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _refuse_if_taken(path)
        staged.unlink(missing_ok=True)
        listener.bind(str(staged))
        staged.chmod(MODE)
        listener.listen(BACKLOG)
        staged.rename(path)
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        raise ConfigError(
            f"control_socket {path}: {reason}", hint="choose a short path in a folder we may write"
        ) from error
    except ConfigError:
        listener.close()
        raise
    return listener


def _refuse_if_taken(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ConfigError(
            f"control_socket {path} is not a socket", hint="remove it, or choose another path"
        )
    if _answers(path):
        raise ConfigError(
            f"control_socket {path}: another daemon listens on it",
            hint="stop that one, or give this one another control_socket",
        )


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(LIVENESS_SECONDS)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except TimeoutError:
            return True
    return True


def identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of what is at `path`; None if nothing is."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def release(path: Path, mine: tuple[int, int] | None) -> None:
    """Remove the socket, unless a successor has put its own there."""
    if mine is not None and identity(path) == mine:
        path.unlink()


NAME_SECONDS = 1.0
"""For the name of a user: where a directory far away keeps it, it may not come."""
CREDENTIALS = struct.Struct("3i")
"""pid, uid and gid; unix(7), SO_PEERCRED."""


class Callers:
    """Names of users, each looked up at most once at a time."""

    def __init__(self) -> None:
        self._lookups: dict[int, asyncio.Task[str]] = {}

    async def of(self, request: web.Request) -> str:
        """The user's name, or their number; empty if it is not known."""
        transport = request.transport
        peer = transport.get_extra_info("socket") if transport is not None else None
        if peer is None or peer.family != socket.AF_UNIX:
            return ""
        raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        _, uid, _ = CREDENTIALS.unpack(raw)
        if uid not in self._lookups or self._lookups[uid].done():
            self._lookups[uid] = asyncio.create_task(asyncio.to_thread(_name_of, uid))
        done, _ = await asyncio.wait([self._lookups[uid]], timeout=NAME_SECONDS)
        return done.pop().result() if done else f"user {uid}"


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
