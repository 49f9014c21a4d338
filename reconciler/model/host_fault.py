"""Whether a VMM ended through a fault of the host: by the VMM's own messages, which no guest can write.

The one place, for every supervisor, that distinguishes faults of the host from those of a generation. A
lack on the host (a port, memory, space, a file of the store, a permission) says nothing about a generation,
so its start is retried and it is never condemned for it.
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
"""Messages of the C library that no manifest can cause: the host lacks something, or another process has it."""
OF_OUR_OWN = ("No such file or directory", "Permission denied", "Operation not permitted")
"""Messages about verified files that we name on the command line; a runner names files of its own."""
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
    """The line with which a VMM reports what the host lacks; empty if there is none."""
    for line in said:
        if _LACKING.search(line) or _OF_OUR_OWN.match(line):
            return line
    return ""
