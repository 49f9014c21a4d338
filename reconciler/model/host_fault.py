"""Whose fault it is that a VMM ended: by the words of the VMM alone, which no guest can write.

The one place that tells trouble of the host from a fault of what was started, for every supervisor. What
the host lacks (a port, memory, space, a file of the store, a right) says nothing about a generation: it is
tried again, and never condemned for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

SHORT_OF = (
    "Address already in use",
    "Cannot assign requested address",
    "Cannot allocate memory",
    "No space left on device",
    "Disk quota exceeded",
    "Too many open files",
    "Resource temporarily unavailable",
    "Device or resource busy",
    "Input/output error",
    "Read-only file system",
    "No buffer space available",
)
"""What no manifest can bring about, in the C library's words: the host has too little of something, or
another process has it."""
OF_OUR_OWN = ("No such file or directory", "Permission denied", "Operation not permitted")
"""Of files that we name on a command line, and that were verified. A runner names its own."""
WORDS = (
    "Could not set up host forwarding rule",
    'Failed to get "write" lock',
    "Could not access KVM kernel module",
    "failed to initialize kvm",
    "could not configure /dev/net/tun",
    "could not open /dev/net/tun",
    "failed to install seccomp syscall filter",
)


def _any_of(words: Iterable[str]) -> str:
    return "|".join(map(re.escape, words))


_LACKING = re.compile(_any_of((*SHORT_OF, *WORDS)), re.IGNORECASE)
_OF_OUR_OWN = re.compile(rf"qemu(?:-system-\w+)?: .*(?:{_any_of(OF_OUR_OWN)})")


def host_fault(said: Iterable[str]) -> str:
    """The line by which a VMM that ended says what the host lacks; empty: it says nothing of the kind."""
    for line in said:
        if _LACKING.search(line) or _OF_OUR_OWN.match(line):
            return line
    return ""
