"""What went wrong with a question, and whose fault it was."""

from __future__ import annotations

import errno
import os
import re
import socket

MOST_DETAIL = 200
"""Characters of a detail."""
MOST_BYTES = 64 * 1024
"""Of an answer; nothing after them is read."""

_OURS = frozenset(
    {
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EADDRNOTAVAIL,  # no free local port
        errno.EACCES,
        errno.EPERM,  # a firewall of this host
        errno.EAFNOSUPPORT,
        errno.ENODEV,  # the bridge by which it is asked is gone
        errno.ENETUNREACH,  # no address of ours in the guest's network
    }
)
_UNPRINTABLE = re.compile(r"[^ -~\u00a1-\u2027\u2030-\u2065\u2070-\ud7ff]+")


def is_ours(error: OSError) -> bool:
    """Whether we could not ask. All else is the guest's: refused, reset, silent."""
    return error.errno in _OURS or isinstance(error, socket.gaierror)


def brief(error: BaseException) -> str:
    """An exception in a few words."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return str(error) or type(error).__name__


def detail(text: str) -> str:
    """Fit for a terminal and a log line: a guest's answer is not to be trusted."""
    return _UNPRINTABLE.sub("?", text)[:MOST_DETAIL]
