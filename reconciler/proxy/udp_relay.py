"""Datagrams, relayed: each client has a socket of its own to the guest, so that answers find back."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import OrderedDict
from dataclasses import dataclass, field

from reconciler.proxy.tcp_relay import LOOPBACK, MOST_AT_ONCE

MOST_SESSIONS = 1024
"""Clients of one port that are remembered; the one that was silent the longest is forgotten first."""
IDLE = 60.0
"""Seconds of silence after which a client is forgotten."""
LEAVING = 5.0
"""Seconds for which a guest that gets no more datagrams may still answer."""
MOST_BYTES = 65536

Address = tuple[str, int]


@dataclass(slots=True, eq=False)
class _Session:
    client: Address
    guest: socket.socket
    heard: float = field(default=0.0)


class UdpListener:
    """Takes datagrams at one port of the host, and relays each to the guest of that moment."""

    def __init__(self, sock: socket.socket, target: int) -> None:
        self.sock = sock
        self._target = target
        self._loop = asyncio.get_running_loop()
        self._sessions: OrderedDict[Address, _Session] = OrderedDict()
        self._leaving: set[_Session] = set()
        self._loop.add_reader(sock, self._from_clients)

    @property
    def target(self) -> int:
        """The port on the loopback that datagrams go to."""
        return self._target

    @target.setter
    def target(self, port: int) -> None:
        """From now on every client's datagrams go there; answers from before are passed on for a while."""
        if port == self._target:
            return
        self._target = port
        while self._sessions:
            _, session = self._sessions.popitem()
            self._leaving.add(session)
            self._loop.call_later(LEAVING, self._forget, session)

    def close(self) -> None:
        """Close the port, and forget all clients."""
        for session in (*self._sessions.values(), *self._leaving):
            self._forget(session)
        self._loop.remove_reader(self.sock)
        self.sock.close()

    def _from_clients(self) -> None:
        for _ in range(MOST_AT_ONCE):
            try:
                data, client = self.sock.recvfrom(MOST_BYTES)
            except OSError:  # nothing more, or the error of an answer that was not taken
                return
            session = self._session(client)
            if session is not None:
                with contextlib.suppress(OSError):  # a datagram may get lost
                    session.guest.send(data)

    def _session(self, client: Address) -> _Session | None:
        now = self._loop.time()
        self._forget_silent(now)
        session = self._sessions.get(client)
        if session is None:
            try:
                session = self._begin(client)
            except OSError:
                return None
        session.heard = now
        self._sessions.move_to_end(client)
        return session

    def _begin(self, client: Address) -> _Session:
        guest = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            guest.connect((LOOPBACK, self._target))
        except OSError:
            guest.close()
            raise
        session = self._sessions[client] = _Session(client, guest)
        self._loop.add_reader(guest, self._from_guest, session)
        return session

    def _from_guest(self, session: _Session) -> None:
        for _ in range(MOST_AT_ONCE):
            try:
                data = session.guest.recv(MOST_BYTES)
            except OSError:
                return
            session.heard = self._loop.time()
            with contextlib.suppress(OSError):
                self.sock.sendto(data, session.client)

    def _forget_silent(self, now: float) -> None:
        """The client heard the longest ago is first; answers count, so that some stay a little longer."""
        while self._sessions:
            oldest = next(iter(self._sessions.values()))
            if oldest.heard > now - IDLE and len(self._sessions) < MOST_SESSIONS:
                return
            self._forget(oldest)

    def _forget(self, session: _Session) -> None:
        if self._sessions.get(session.client) is session:
            del self._sessions[session.client]
        self._leaving.discard(session)
        if session.guest.fileno() >= 0:
            self._loop.remove_reader(session.guest)
            session.guest.close()
