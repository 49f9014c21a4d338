"""The lock of the state directory: only the daemon that holds it may use the directory."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from reconciler.errors import ConfigError, StateDirLocked
from reconciler.host import layout

MODE = 0o750
OTHERS = 0o007
MOST_BYTES = 32
"""Bytes of the lock file's content, which is the pid of its holder."""


@contextlib.contextmanager
def held(state: Path) -> Iterator[None]:
    """Create the state directory if needed, and hold its lock inside the context.

    The kernel releases the lock when the process ends, for any reason, and not before. The folder is
    locked in addition to the file with the holder's pid, because the file could be removed while the
    daemon runs. Raises ConfigError and StateDirLocked.
    """
    with contextlib.ExitStack() as stack:
        try:
            state.mkdir(parents=True, exist_ok=True, mode=MODE)
            _close(state)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            descriptor = os.open(layout.daemon_lock(state), flags, 0o600)
            stack.callback(os.close, descriptor)
            folder = os.open(state, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, folder)
        except OSError as error:
            raise ConfigError(
                f"state_dir {state}: {error.strerror}", hint="create it, or run as a user who may"
            ) from error
        for lock in (descriptor, folder):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise _refusal(state, _holder(descriptor)) from error
        _sign(descriptor)
        yield


def _close(state: Path) -> None:
    """Remove all permissions of others: the directory has consoles, evidence and the key of the TCP listener."""
    found = state.stat()
    if found.st_uid == os.geteuid() and found.st_mode & OTHERS:
        state.chmod(stat.S_IMODE(found.st_mode) & ~OTHERS)


def _sign(descriptor: int) -> None:
    """Write our pid, for the message of a refused daemon. A full disk must not prevent the start."""
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)


def _holder(descriptor: int) -> int | None:
    """The pid in the lock file, if such a process lives."""
    text = os.pread(descriptor, MOST_BYTES, 0).strip()
    if not text.isdigit() or not Path(f"/proc/{int(text)}").exists():
        return None
    return int(text)


def _refusal(state: Path, pid: int | None) -> StateDirLocked:
    if pid is None:
        return StateDirLocked(
            f"another daemon runs on {state}; this one has touched nothing",
            hint=f"find it with `fuser {layout.daemon_lock(state)} {state}`, or give this one a state_dir of its own",
        )
    if _stands_still(pid):
        return StateDirLocked(
            f"another daemon runs on {state}, and stands still: process {pid} was stopped by a"
            " signal; this one has touched nothing",
            hint=f"`kill -CONT {pid}` lets it go on, `kill -KILL {pid}` ends it; guests run on either way",
        )
    return StateDirLocked(
        f"another daemon runs on {state}: process {pid}; this one has touched nothing",
        hint=f"end it with `kill {pid}`, guests run on; or give this one a state_dir of its own",
    )


def _stands_still(pid: int) -> bool:
    """By its state in /proc/PID/stat: T is stopped by a signal, t by a tracer."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[:1] in (["T"], ["t"])
