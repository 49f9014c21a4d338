"""The unix socket of the control API: ours alone, never a live daemon's, and with its mode from the start."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

from reconciler.errors import ConfigError

MODE = 0o660
BACKLOG = 128
LIVENESS_SECONDS = 2.0
"""A daemon that does not even take a connection for so long is still not dead."""


def claim(path: Path) -> socket.socket:
    """A listening socket at `path`; what a dead daemon left there is replaced.

    It is made under another name and renamed, so nobody ever meets it closed or with another mode.
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
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def release(path: Path, mine: tuple[int, int] | None) -> None:
    """Remove the socket, unless a successor has put its own there."""
    if mine is not None and identity(path) == mine:
        path.unlink()
