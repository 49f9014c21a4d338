"""What every kind of check shares: the asker's interface, and whose fault a missing answer is."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from reconciler.model.checks import CheckSpec
from reconciler.model.guest_reports import ConsoleText
from reconciler.model.health import ProbeResult
from reconciler.model.names import InstanceId

MOST_DETAIL = 200
"""Characters of a detail that are kept."""
MOST_BYTES = 64 * 1024
"""Bytes of an answer that are read."""
LONGEST = 10.0
"""Seconds for a question of a kind without a timeout."""

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
        errno.ENODEV,  # the guest's bridge is gone
        errno.ENETUNREACH,  # this host has no address in the guest's network
    }
)
_UNPRINTABLE = re.compile(r"[^ -~\u00a1-\u2027\u2030-\u2065\u2070-\ud7ff]+")

Asked_contra = TypeVar("Asked_contra", bound=CheckSpec, contravariant=True)
ReadConsole = Callable[[InstanceId], Awaitable[ConsoleText]]


class CannotAsk(Exception):
    """Why this host could not ask: an asker that raises it answers *error*."""


async def no_console(_: InstanceId) -> ConsoleText:
    """For guests whose console cannot be read."""
    return ConsoleText(unreadable="no console is kept here")


@dataclass(frozen=True, slots=True)
class AskedGuest:
    """The guest that is asked. The check holds its address: planning has filled it in."""

    instance: InstanceId
    read_console: ReadConsole = no_console
    memory: dict[CheckSpec, Any] = field(default_factory=dict)
    """What askers keep about this guest, by the check. The prober drops it when the guest ends; a
    daemon that starts again begins with none."""

    async def console(self) -> ConsoleText:
        """What the guest printed since its start. Raises CannotAsk if this host cannot read it.

        A text that is not there may have been cut (`ConsoleText.cut`): keep in `memory` what was seen.
        """
        found = await self.read_console(self.instance)
        if found.unreadable:
            raise CannotAsk(found.unreadable)
        return found


class Asker(Protocol[Asked_contra]):
    """Runs one kind of check for all guests, many at a time.

    `ask` answers with the result and a detail for people, such as `GET :8080/ -> 503`: *failure* when
    the guest is bad, *error* when this host could not ask (`is_ours`). What it raises counts as an
    error. It may be cancelled at any await, and ends within the check's own timeout; of a kind without
    one, within `LONGEST`, after which `Askers` cancels it and answers *error*: only this host is slow,
    because whatever waits for the guest has a timeout in the manifest.

    What it knows of a guest is kept in `AskedGuest.memory` and not in the asker.
    """

    async def ask(self, check: Asked_contra, guest: AskedGuest) -> tuple[ProbeResult, str]:
        """The result and a detail, as above."""
        ...

    async def close(self) -> None:
        """Release what is kept between checks; `ask` is not called afterwards."""
        ...


def is_ours(error: OSError) -> bool:
    """Whether this host failed to ask. Other errors are the guest's: refused, reset, silent."""
    return error.errno in _OURS or isinstance(error, socket.gaierror)


def brief(error: BaseException) -> str:
    """An exception as a short text for a detail."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return str(error) or type(error).__name__


def detail(text: str) -> str:
    """A text from a guest made safe for terminals and logs, and cut."""
    return _UNPRINTABLE.sub("?", text)[:MOST_DETAIL]
