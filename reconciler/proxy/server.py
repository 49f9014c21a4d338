"""The front as a process: one a folder, ended by a signal, or by itself once nothing is to be led any more."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import resource
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

from reconciler.endpoints import short_address
from reconciler.errors import StateDirLocked
from reconciler.host import layout
from reconciler.model.machine import RouteTarget
from reconciler.model.names import VMName
from reconciler.proxy import messages as wire
from reconciler.proxy.control_socket import Control
from reconciler.proxy.routing_table import Keeping, Table
from reconciler.systemd_notify import Service

log = logging.getLogger(__name__)

IDLE = 60.0
"""Seconds with nothing to lead, nobody connected and nobody asking, after which it ends."""
LOOK_EVERY = 5.0
LOCK_TRIES = 20
LOCK_PAUSE = 0.05
"""Seconds between tries: who looks whether it runs holds the lock for a moment."""
CONTROL = "front"
TABLE = "table"
"""Names under which systemd hands over the control socket, and keeps the table."""


class Kept(Keeping):
    """Listening sockets and the table, kept by systemd while the front is started anew.

    New connections then wait for it in the kernel, and are not refused.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        handed = service.descriptor(TABLE)
        self._memory = os.memfd_create("front-table") if handed is None else handed
        if handed is None:
            service.store(TABLE, self._memory)

    def keep(self, name: str, sock: socket.socket) -> None:
        """Hand the socket to systemd."""
        self._service.store(name, sock.fileno())

    def drop(self, name: str) -> None:
        """Ask systemd to close what it keeps under this name."""
        self._service.drop(name)

    def write(self, led: dict[VMName, RouteTarget]) -> None:
        """Replace the table in the memory that systemd keeps open."""
        text = wire.encode({"led": {vm: wire.pack(one) for vm, one in led.items()}})
        os.ftruncate(self._memory, 0)
        os.pwrite(self._memory, text, 0)

    def read(self) -> dict[VMName, RouteTarget]:
        """What was led before; nothing if that cannot be read."""
        try:
            return wire.unpack_all(wire.decode(os.pread(self._memory, wire.MOST_BYTES, 0)))
        except (OSError, wire.MalformedMessage):
            return {}

    def close(self) -> None:
        """Close our side; systemd's stays."""
        os.close(self._memory)


async def run(folder: Path, service: Service, idle: float = IDLE) -> None:
    """Run until SIGTERM or SIGINT, or until idle. Raises StateDirLocked if another runs there."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # two descriptors a connection
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True, mode=0o700)
    async with contextlib.AsyncExitStack() as stack:
        await _locked(folder, stack)
        sock = service.listener(CONTROL) or _bound(folder)
        stack.callback(sock.close)  # also where the end comes before anybody serves it
        kept = Kept(service)
        stack.callback(kept.close)
        table = Table(kept, service.listener)
        stack.callback(table.close)
        _restore(table, kept, service)
        control = Control(table)
        await control.open(sock)
        stack.push_async_callback(control.close)
        service.ready()
        log.info("running", extra={"fields": {"folder": str(folder), "vms": len(table.led)}})
        await _until_told(table, control, service, idle)
        service.stopping()


def _restore(table: Table, kept: Kept, service: Service) -> None:
    """Lead on where the process before this one led, by its sockets."""
    for vm, led in kept.read().items() if service.handed() else ():
        try:
            table.lead(vm, led)
        except Exception:  # the daemon sees that it is not led, and leads it again
            log.exception("what was led before cannot be led on", extra={"fields": {"vm": vm}})
    for name in service.handed():
        service.drop(name)
        if (left := service.descriptor(name)) is not None:
            os.close(left)


async def _locked(folder: Path, stack: contextlib.AsyncExitStack) -> None:
    descriptor = os.open(layout.proxy_lock(folder), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    stack.callback(os.close, descriptor)
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            await asyncio.sleep(LOCK_PAUSE)
        else:
            os.fchmod(descriptor, 0o644)  # a daemon that is somebody else looks whether it is held
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            return
    raise StateDirLocked(f"another front runs in {folder}", hint=f"its pid is in {layout.LOCK}")


def _bound(folder: Path) -> socket.socket:
    path = layout.proxy_socket(folder)
    path.unlink(missing_ok=True)  # the lock is ours: nobody listens on it
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        os.fchmod(sock.fileno(), 0o600)  # before it is bound: nobody else opens it in between
        with short_address(path) as address:
            sock.bind(address)
        sock.listen()
    except OSError:
        sock.close()
        raise
    return sock


async def _until_told(table: Table, control: Control, service: Service, idle: float) -> None:
    """Until a signal asks for the end, or nothing was to be done for a while."""
    told, loop = asyncio.Event(), asyncio.get_running_loop()
    with _signals(told):
        busy_at = loop.time()
        while not told.is_set():
            if not table.idle or control.clients:
                busy_at = loop.time()
            elif loop.time() >= busy_at + idle:
                log.info("nothing to lead any more")
                return
            service.alive()
            service.status(f"leads the ports of {len(table.led)} VMs")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(LOOK_EVERY, idle)):
                    await told.wait()


@contextlib.contextmanager
def _signals(told: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, told.set)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
