"""Becomes a program that can open no socket but local ones: `python -m reconciler.children.offline ARGV...`.

A network namespace needs a right that the daemon's own unit does not have. A seccomp filter needs none,
holds for everything that the program starts, and cannot be taken off again.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
NOT_NOW = 75
"""Exit status where this host cannot filter: EX_TEMPFAIL."""
LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
"""Instructions of classic BPF: a word of the call's data, two conditional jumps, and the end."""
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16
"""Offsets in `struct seccomp_data`."""
ALLOW, KILL, REFUSE = 0x7FFF0000, 0x80000000, 0x00050000 | errno.EACCES
X32 = 0x40000000
"""From here on the numbers are those of another interface to the same calls."""
IO_URING_SETUP = 425
"""A ring opens sockets without the call `socket`."""


class Processor(NamedTuple):
    """How a kind of processor names itself in the filter, and its number of the call `socket`."""

    audit: int
    socket: int


PROCESSORS: Mapping[str, Processor] = {
    "x86_64": Processor(0xC000003E, 41),
    "aarch64": Processor(0xC00000B7, 198),
}


def filter_of(processor: Processor) -> bytes:
    """The filter, as an array of `struct sock_filter`; jumps count the instructions that are skipped."""
    lines = (
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 1, 0, processor.audit),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
        (AT_LEAST, 5, 0, X32),
        (EQUAL, 4, 0, IO_URING_SETUP),
        (EQUAL, 0, 2, processor.socket),
        (LOAD, 0, 0, FIRST_ARGUMENT),
        (EQUAL, 0, 1, socket.AF_UNIX),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, REFUSE),
    )
    return b"".join(struct.pack("HBBI", *line) for line in lines)


def go_offline() -> None:
    """From now on this process opens no socket of the network. Raises OSError."""
    processor = PROCESSORS.get(platform.machine())
    if processor is None:
        raise OSError(errno.ENOTSUP, f"unknown processor {platform.machine()}")
    code = filter_of(processor)
    held = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(held))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def main(argv: Sequence[str]) -> int:
    """Does not return where the program can be started."""
    try:
        go_offline()
    except OSError as error:
        sys.stdout.write(f"this host cannot keep programs from the network: {error.strerror}")
        return NOT_NOW
    try:
        os.execvp(argv[0], list(argv))  # noqa: S606  # never a shell
    except OSError as error:
        sys.stdout.write(f"{argv[0]}: {error.strerror}")
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
