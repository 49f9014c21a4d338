"""Gives up what a child does not need; as a module it becomes the program that its one request names.

    python -m reconciler.children.confinement [BOUNDS]    a JSON line on standard input: the request

BOUNDS are a JSON object. One with the default bounds is kept waiting, since an interpreter that starts
costs a push some 20 ms. It ends without a request when the daemon ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from reconciler.children.offline import go_offline

CLONE_NEWIPC, CLONE_NEWNET = 0x08000000, 0x40000000
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
FIRST_TO_END = "500"
"""For the kernel when memory is short: before any guest, and before the daemon, of which it has its place."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a child may use, as rlimits; each of its own children may use as much again."""

    cpu_seconds: int = 300
    memory_bytes: int = 4 << 30
    """Address space; libgit2 maps whole packs."""
    file_bytes: int = 4 << 30
    """The largest file that it may write."""
    open_files: int = 256
    network: bool = False
    """Whether it reaches the network: only what fetches needs it."""


def confine(bounds: Bounds) -> None:
    """Give up what this process does not need. What this host does not let us give up, we keep."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.unshare(CLONE_NEWIPC | (0 if bounds.network else CLONE_NEWNET))  # root only
    if not bounds.network:
        # The unit of the daemon may make no namespace, and may set a filter.
        with contextlib.suppress(OSError):
            go_offline()
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_END, encoding="ascii")
    os.umask(0o022)
    for kind, most in (
        (resource.RLIMIT_CPU, bounds.cpu_seconds),
        (resource.RLIMIT_AS, bounds.memory_bytes),
        (resource.RLIMIT_FSIZE, bounds.file_bytes),
        (resource.RLIMIT_NOFILE, bounds.open_files),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (least, least))


def main(arguments: Sequence[str]) -> int:
    """Wait for one request: an end without one is an end of the daemon."""
    confine(Bounds(**json.loads(arguments[0])) if arguments else Bounds())
    line = sys.stdin.buffer.readline()
    if not line:
        return 0
    request = json.loads(line)
    argv = request["argv"]
    try:
        become(argv, request["env"], request["cwd"], request["stdout"])
    except OSError as error:  # the parent says so, and tries again
        sys.stdout.write(f"{error.filename or argv[0]}: {error.strerror}")
        return 1


def become(
    argv: list[str], env: Mapping[str, str], cwd: str | None, stdout: str | None
) -> NoReturn:
    """Replace this process by a program. Raises OSError."""
    os.environ.update(env)
    if cwd is not None:
        os.chdir(cwd)
    if stdout is not None:
        file = os.open(stdout, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        os.dup2(file, sys.stdout.fileno())
    os.execvp(argv[0], argv)  # noqa: S606  # never a shell


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
