"""The daemon as a service of systemd: notifications, the watchdog, and passed sockets. Does nothing elsewhere."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Awaitable, Callable, MutableMapping

FIRST_DESCRIPTOR = 3
"""The first passed descriptor; sd_listen_fds(3)."""
MOST_STATUS = 200
FEEDING = 2.0
"""Watchdog notifications in each of its periods."""
LONGEST_ROUND = 5.0
"""Seconds between two notifications at most."""
UNTIL_READY = 0.05


class Service:
    """The connection to systemd. Removes its variables from the environment, so that no child can use them."""

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        self._address = environ.pop("NOTIFY_SOCKET", "")
        self.watchdog = _watchdog(environ)
        """Seconds within which systemd expects a notification; None: no watchdog."""
        self._handed = _handed(environ)
        self._status = ""

    def listener(self, name: str) -> socket.socket | None:
        """The listening socket of this name (`FileDescriptorName=`), at most once."""
        descriptor = self._handed.pop(name, None)
        return None if descriptor is None else socket.socket(fileno=descriptor)

    def descriptor(self, name: str) -> int | None:
        """The descriptor stored under this name, at most once; the caller then owns it."""
        return self._handed.pop(name, None)

    def handed(self) -> tuple[str, ...]:
        """Names of passed descriptors that were not taken yet."""
        return tuple(self._handed)

    def store(self, name: str, descriptor: int) -> None:
        """Store a descriptor in systemd for the next process of this service."""
        self._send(f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0", descriptor)

    def drop(self, name: str) -> None:
        """Remove a stored descriptor from systemd."""
        self._send(f"FDSTOREREMOVE=1\nFDNAME={name}")

    def ready(self) -> None:
        """Report that the daemon is ready."""
        self._send("READY=1")

    def reloading(self) -> None:
        """Report that the daemon is reloading; `ready` must follow."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Report that the daemon is stopping."""
        self._send("STOPPING=1\nSTATUS=stopping; guests are left as they are")

    def alive(self) -> None:
        """Notify the watchdog."""
        self._send("WATCHDOG=1")

    def status(self, words: str) -> None:
        """Set the line for `systemctl status`; sent only if it changed."""
        if words != self._status:
            self._status = words
            self._send("STATUS=" + " ".join(words.split())[:MOST_STATUS])

    def _send(self, message: str, *descriptors: int) -> None:
        if not self._address:
            return
        # The leading NUL of an abstract socket is written as @.
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        # A manager that does not listen must not end the daemon.
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as out,
        ):
            out.connect(address)
            socket.send_fds(out, [message.encode()], descriptors)


async def keep_informed(
    service: Service,
    sleep: Callable[[float], Awaitable[None]],
    ready: Callable[[], bool],
    live: Callable[[], bool],
    words: Callable[[], str],
) -> None:
    """Notify systemd when the daemon is ready, and then of its status, until cancelled.

    The watchdog is notified only while every part of the daemon makes progress.
    """
    while not ready():
        await sleep(UNTIL_READY)
    service.status(words())
    service.ready()
    period = min(LONGEST_ROUND, (service.watchdog or LONGEST_ROUND) / FEEDING)
    while True:
        if live():
            service.alive()
        service.status(words())
        await sleep(period)


def _watchdog(environ: MutableMapping[str, str]) -> float | None:
    period, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
    if not period.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(period) / 1_000_000


def _handed(environ: MutableMapping[str, str]) -> dict[str, int]:
    pid, number = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()) or not number.isdigit():
        return {}
    found = {}
    for index, name in enumerate(names[: int(number)]):
        os.set_inheritable(FIRST_DESCRIPTOR + index, False)  # noqa: FBT003  its only form
        found[name] = FIRST_DESCRIPTOR + index
    return found
