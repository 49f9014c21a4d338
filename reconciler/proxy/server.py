"""The proxy as a process: one a folder; it ends by a signal, or by itself once it has no routes."""

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
"""Seconds without routes, connections and clients after which it ends."""
LOOK_EVERY = 5.0
LOCK_TRIES = 20
LOCK_PAUSE = 0.05
"""Seconds between tries: a process that looks whether it runs holds the lock for a moment."""
CONTROL = "front"
TABLE = "table"
"""Names under which systemd hands over the control socket, and keeps the table."""


class Kept(Keeping):
    """Listening sockets and the table, kept by systemd while the proxy restarts.

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

    def write(self, targets: dict[VMName, RouteTarget]) -> None:
        """Replace the table in the memory that systemd keeps open."""
        text = wire.encode({"led": {vm: wire.pack(one) for vm, one in targets.items()}})
        os.ftruncate(self._memory, 0)
        os.pwrite(self._memory, text, 0)

    def read(self) -> dict[VMName, RouteTarget]:
        """The table of before; empty if it cannot be read."""
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
        stack.callback(sock.close)  # also if the end comes before it is served
        kept = Kept(service)
        stack.callback(kept.close)
        table = Table(kept, service.listener)
        stack.callback(table.close)
        _restore(table, kept, service)
        control = Control(table)
        await control.open(sock)
        stack.push_async_callback(control.close)
        service.ready()
        log.info("running", extra={"fields": {"folder": str(folder), "vms": len(table.targets)}})
        await _until_stopped(table, control, service, idle)
        service.stopping()


def _restore(table: Table, kept: Kept, service: Service) -> None:
    """Restore the routes of the process before this one, with its sockets."""
    for vm, target in kept.read().items() if service.handed() else ():
        try:
            table.route(vm, target)
        except Exception:  # the daemon sees that the route is missing, and sets it again
            log.exception("a route cannot be restored", extra={"fields": {"vm": vm}})
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
            os.fchmod(descriptor, 0o644)  # a daemon of another user looks whether it is held
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            return
    raise StateDirLocked(f"another proxy runs in {folder}", hint=f"its pid is in {layout.LOCK}")


def _bound(folder: Path) -> socket.socket:
    path = layout.proxy_socket(folder)
    path.unlink(missing_ok=True)  # the lock is ours, so no proxy listens on it
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        # Before it is bound, so that no other user can open it in between.
        os.fchmod(sock.fileno(), 0o600)
        with short_address(path) as address:
            sock.bind(address)
        sock.listen()
    except OSError:
        sock.close()
        raise
    return sock


async def _until_stopped(table: Table, control: Control, service: Service, idle: float) -> None:
    """Until a signal asks for the end, or there was nothing to do for a while."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    with _signals(stop):
        busy_at = loop.time()
        while not stop.is_set():
            if not table.idle or control.clients:
                busy_at = loop.time()
            elif loop.time() >= busy_at + idle:
                log.info("no routes any more")
                return
            service.alive()
            service.status(f"routes the ports of {len(table.targets)} VMs")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(LOOK_EVERY, idle)):
                    await stop.wait()


@contextlib.contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
