"""TCP connections, relayed byte by byte: one half may be closed, and a slow reader slows the writer."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import struct
from collections import Counter
from collections.abc import Callable
from typing import cast

from reconciler.model.names import InstanceId

LOOPBACK = "127.0.0.1"
CONNECT_DEADLINE = 5.0
"""Seconds in which a guest's own port must take a connection."""
MOST_OPEN = 1000
"""Connections of one VM at once; more wait in the kernel until one of them ends."""
MOST_AT_ONCE = 64
"""Connections taken from one listener before others have their turn."""
OUT_OF_FILES = 0.5
"""Seconds until a listener is asked again after the process ran out of descriptors."""
RESERVED = 64
"""Descriptors that connections never get: they are for control clients, and for what is open already.
Of a small limit it is a quarter."""
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: the connection ends with a reset, and not with the end of the data."""


class RelayState:
    """What a VM's connections have in common: how many there are, and the guest that gets new ones."""

    def __init__(self) -> None:
        self.instance = InstanceId("")
        self.open: Counter[InstanceId] = Counter()
        self.on_room: list[Callable[[], None]] = []
        """Called once, when there is room for another connection."""

    @property
    def full(self) -> bool:
        """Whether another connection has to wait."""
        return self.open.total() >= MOST_OPEN

    def ended(self, instance: InstanceId) -> None:
        """A connection to this guest has ended: one that waited may come."""
        self.open[instance] -= 1
        if not self.open[instance]:
            del self.open[instance]
        waiting, self.on_room = self.on_room, []
        for tell in waiting:
            tell()


def highest_descriptor() -> int:
    """A descriptor from this one on is for others: the kernel hands out the lowest that is free."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft - min(RESERVED, soft // 4)


class TcpListener:
    """Takes connections at one port of the host, and relays each to the guest of that moment."""

    def __init__(self, sock: socket.socket, line: RelayState, target: int) -> None:
        self.sock = sock
        self.target = target
        self._line = line
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._watch()

    def close(self) -> None:
        """Take no more; connections that are open go on."""
        self._closed = True
        self._loop.remove_reader(self.sock)
        self.sock.close()

    def _watch(self) -> None:
        if not self._closed:
            self._loop.add_reader(self.sock, self._accept)

    def _accept(self) -> None:
        for _ in range(MOST_AT_ONCE):
            if self._line.full:
                self._loop.remove_reader(self.sock)
                self._line.on_room.append(self._watch)
                return
            try:
                client, _ = self.sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                self._pause()
                return
            if client.fileno() >= highest_descriptor():
                client.close()
                self._pause()
                return
            self._take(client)

    def _pause(self) -> None:
        self._loop.remove_reader(self.sock)
        self._loop.call_later(OUT_OF_FILES, self._watch)

    def _take(self, client: socket.socket) -> None:
        # Counted from here on, so that a guest which drains is not taken to be done.
        instance, line = self._line.instance, self._line
        line.open[instance] += 1
        task = self._loop.create_task(relay(client, self.target))
        self._tasks.add(task)

        def done(ended: asyncio.Task[None]) -> None:
            self._tasks.discard(ended)
            line.ended(instance)
            if not ended.cancelled():
                ended.exception()  # its two ends have seen why it died

        task.add_done_callback(done)


async def relay(client: socket.socket, port: int) -> None:
    """One connection, from a client to a guest's own port, until both halves have ended."""
    loop = asyncio.get_running_loop()
    client.setblocking(False)  # noqa: FBT003 - its only form
    client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    guest = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        async with asyncio.timeout(CONNECT_DEADLINE):
            await loop.sock_connect(guest, (LOOPBACK, port))
    except (OSError, TimeoutError):
        guest.close()
        _reset(client)
        client.close()
        return
    here, there = _Half(), _Half()
    here.other, there.other = there, here
    await loop.connect_accepted_socket(lambda: there, guest)
    await loop.connect_accepted_socket(lambda: here, client)
    await asyncio.wait((here.lost, there.lost))


class _Half(asyncio.Protocol):
    """One end of a connection; what it hears, the other end says."""

    def __init__(self) -> None:
        self.other: _Half
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None
        self._before: list[bytes] = []
        """Heard by the other end before this one stood."""
        self._ended = False
        """The other end heard the last of it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.writelines(self._before)
        self._before.clear()
        if self.other.lost.done():
            self._transport.close()
        elif self._ended:
            self._transport.write_eof()

    def data_received(self, data: bytes) -> None:
        self.other.say(data)

    def eof_received(self) -> bool:
        self.other.say_end()
        if self._ended:  # both directions have: what is still to be written is written
            self.close()
            self.other.close()
        return True  # the other direction may go on

    def pause_writing(self) -> None:
        self.other.pause()

    def resume_writing(self) -> None:
        self.other.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)
        if exc is not None:
            self.other.reset()
        else:
            self.other.close()

    def say(self, data: bytes) -> None:
        if self._transport is None:
            self._before.append(data)
        elif not self._transport.is_closing():
            self._transport.write(data)

    def say_end(self) -> None:
        self._ended = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def pause(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        if self._transport is not None:
            _reset(self._transport.get_extra_info("socket"))
            self._transport.abort()


def _reset(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
