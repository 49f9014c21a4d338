"""What a kind of check brings: who asks its question, and whose fault it is when there is no answer."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from reconciler.model.checks import CheckSpec
from reconciler.model.health import ProbeResult
from reconciler.model.names import InstanceId

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

Asked_contra = TypeVar("Asked_contra", bound=CheckSpec, contravariant=True)
ReadConsole = Callable[[InstanceId], Awaitable[str]]
"""What a guest printed since it was started: the newest 256 KiB, lines as they came, not cleaned."""


async def no_console(_: InstanceId) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class AskedGuest:
    """The guest that is asked. Where it listens is in the check: planning has led it there."""

    instance: InstanceId
    read_console: ReadConsole = no_console

    async def console(self) -> str:
        return await self.read_console(self.instance)


class Asker(Protocol[Asked_contra]):
    """Asks one kind of check of all guests; many questions at once.

    `ask` answers with the result and a detail for people, such as `GET :8080/ -> 503`: *failure* when
    the guest is bad, *error* when this host could not ask (`is_ours`). It ends within the
    check's own timeout, and may be cancelled at any await. What it raises counts as an error.
    """

    async def ask(self, check: Asked_contra, guest: AskedGuest) -> tuple[ProbeResult, str]: ...

    async def close(self) -> None:
        """Close what is kept between questions; none is asked any more."""
        ...


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
