"""The daemon as a service of systemd: what it tells, and what it is handed. Silent elsewhere."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Awaitable, Callable, MutableMapping

FIRST_DESCRIPTOR = 3
"""Of those that systemd hands over; sd_listen_fds(3)."""
MOST_STATUS = 200
FEEDING = 2.0
"""Meals of the watchdog in each of its periods."""
LONGEST_ROUND = 5.0
"""Seconds between two looks at what there is to tell."""
UNTIL_READY = 0.05


class Service:
    """Takes systemd's variables out of the environment: no child shall speak for us."""

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        self._address = environ.pop("NOTIFY_SOCKET", "")
        self.watchdog = _watchdog(environ)
        """Seconds within which systemd wants to hear of us; None when it does not."""
        self._handed = _handed(environ)
        self._status = ""

    def listener(self, name: str) -> socket.socket | None:
        """The listening socket of this name (`FileDescriptorName=`), at most once."""
        descriptor = self._handed.pop(name, None)
        return None if descriptor is None else socket.socket(fileno=descriptor)

    def descriptor(self, name: str) -> int | None:
        """What was stored under this name, at most once; it is the caller's from then on."""
        return self._handed.pop(name, None)

    def handed(self) -> tuple[str, ...]:
        """Names of what was handed over and not taken yet."""
        return tuple(self._handed)

    def store(self, name: str, descriptor: int) -> None:
        """Have systemd keep a descriptor, for the process that comes after this one."""
        self._tell(f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0", descriptor)

    def drop(self, name: str) -> None:
        self._tell(f"FDSTOREREMOVE=1\nFDNAME={name}")

    def ready(self) -> None:
        self._tell("READY=1")

    def reloading(self) -> None:
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._tell("STOPPING=1\nSTATUS=stopping; guests are left as they are")

    def alive(self) -> None:
        """Feed the watchdog."""
        self._tell("WATCHDOG=1")

    def status(self, words: str) -> None:
        """One line for `systemctl status`; told when it differs from the one before."""
        if words != self._status:
            self._status = words
            self._tell("STATUS=" + " ".join(words.split())[:MOST_STATUS])

    def _tell(self, message: str, *descriptors: int) -> None:
        if not self._address:
            return
        # An abstract socket is written with an @ for its leading NUL.
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        # A manager that does not listen is no reason to end.
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as out,
        ):
            out.connect(address)
            socket.send_fds(out, [message.encode()], descriptors)


async def keep_told(
    service: Service,
    sleep: Callable[[float], Awaitable[None]],
    ready: Callable[[], bool],
    live: Callable[[], bool],
    words: Callable[[], str],
) -> None:
    """Tell systemd when the daemon is ready, and from then on how it is; until cancelled.

    The watchdog is fed only while every part of the daemon goes round.
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
