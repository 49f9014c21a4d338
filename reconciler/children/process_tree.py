"""Runs a program and ends with it everything that it started: `python -m reconciler.children.process_tree ARGV...`.

A process group is not enough for a program that others wrote: what starts a session of its own leaves
the group and outlives it. So a guard of its own session adopts every orphan below it. It ends them all
when the program has ended, or when its parent has, as one that is killed.

SIGTERM ends all of it, and this process last: who waits for it then knows that nothing is left.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

TREE = "reconciler.children.process_tree"
"""This module, for `python -m`."""
GRACE = 10.0
"""Seconds after SIGTERM within which it has ended everything, also on a busy host."""
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
NOT_STARTED = 127
BY_SIGNAL = 128
"""The status is this and the signal's number, as of a shell."""


class ParentEnded(BaseException):
    """Nothing waits for the program any more."""


def run_tree(argv: Sequence[str]) -> int:
    """Run a program to its end, and whatever it leaves behind to theirs; returns its status."""
    _control(PR_SET_CHILD_SUBREAPER, 1)  # in place of a guard that was killed
    _control(PR_SET_PDEATHSIG, signal.SIGTERM)
    here = os.getpid()
    # One that comes before there is something to end waits until there is.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    guard = os.fork()
    if guard == 0:
        os._exit(_guard(argv, here))
    status = BY_SIGNAL + signal.SIGTERM
    with contextlib.suppress(ParentEnded):
        _hear_of_the_end()
        status = _status(os.waitpid(guard, 0)[1])
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end_descendants()
    return status


def _hear_of_the_end() -> None:
    """From now on SIGTERM raises ParentEnded."""

    def ended(_number: int, _frame: object) -> NoReturn:
        raise ParentEnded

    signal.signal(signal.SIGTERM, ended)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _guard(argv: Sequence[str], parent: int) -> int:
    os.setsid()
    _control(PR_SET_CHILD_SUBREAPER, 1)
    _control(PR_SET_PDEATHSIG, signal.SIGTERM)
    status = BY_SIGNAL + signal.SIGTERM
    with contextlib.suppress(ParentEnded):
        _hear_of_the_end()
        if os.getppid() == parent:  # else it ended before we could ask to hear of it
            status = _run(argv)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end_descendants()
    return status


def _run(argv: Sequence[str]) -> int:
    program = os.fork()
    if program == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            os.execvp(argv[0], list(argv))  # noqa: S606  # never a shell
        except OSError as error:
            os.write(2, f"{argv[0]}: {error.strerror}\n".encode())
            os._exit(NOT_STARTED)
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == program:
            return _status(status)


def end_descendants() -> None:
    """Kill all children, and those that thereby become ours, until there is none."""
    while True:
        for child in _children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> Iterator[int]:
    here = str(os.getpid())
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                # The name in parentheses may hold anything; the state and the parent come after it.
                state = (entry / "stat").read_bytes().rpartition(b")")[2].split()
                if state[1].decode() == here:
                    yield int(entry.name)


def _status(wait_status: int) -> int:
    code = os.waitstatus_to_exitcode(wait_status)
    return code if code >= 0 else BY_SIGNAL - code


def _control(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(run_tree(sys.argv[1:]))
