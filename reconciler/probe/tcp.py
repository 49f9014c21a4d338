"""The check `tcp`: a peer that sends the expected text, or that proves to be behind the connection.

User networking accepts connections on the guest's behalf, before it knows whether the guest listens or
has booted at all, and also for a guest that hangs. So an open connection proves nothing:

    the guest refuses        the connection is closed at once, or reset because our byte was not read
    the guest is not there   the connection stays open and silent
    a server listens         it notices the end of our stream, and closes or sends something

So a check without `expect` waits a moment, then shuts down its side of the connection, and passes if
the peer closes or sends something in time. Before that it sends one byte of urgent data, which is not
in the server's stream: while the byte is unread, a late refusal is a reset and not a close.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

from reconciler.model.checks import TcpCheck
from reconciler.model.health import ProbeResult
from reconciler.probe.asker import MOST_BYTES, AskedGuest, brief, is_ours

MOMENT = 0.05
"""Seconds that a silent connection must stay open; a booted guest that refuses does so in milliseconds."""


class TcpAsker:
    """Asks any TCP server; keeps nothing between checks."""

    async def ask(self, check: TcpCheck, guest: AskedGuest) -> tuple[ProbeResult, str]:  # noqa: ARG002 - of any guest
        """The result, with a detail such as `tcp :22 -> speaks`."""
        return await ask(check)

    async def close(self) -> None:
        """Nothing to release."""


async def ask(check: TcpCheck) -> tuple[ProbeResult, str]:
    """Run the check: connect, then expect its text, or find out whether anything listens."""
    what = f"tcp :{check.port} -> "
    try:
        async with asyncio.timeout(check.timeout):
            with await _connect(check) as sock:
                if check.expect:
                    return await _expect(check.expect, sock, what)
                return await _listens(sock, what)
    except TimeoutError:
        return "failure", f"{what}no answer within {check.timeout:g} s"
    except OSError as error:
        return "error" if is_ours(error) else "failure", f"{what}{brief(error)}"


async def _connect(check: TcpCheck) -> socket.socket:
    loop = asyncio.get_running_loop()
    family, kind, protocol, _, address = (
        await loop.getaddrinfo(check.host, check.port, type=socket.SOCK_STREAM)
    )[0]
    sock = open_socket(family, kind, protocol, check.device)
    try:
        await loop.sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def open_socket(family: int, kind: int, protocol: int, device: str) -> socket.socket:
    """A non-blocking socket, bound to an interface of this host unless `device` is empty. Raises OSError."""
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
    try:
        if device:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")
    except OSError:
        sock.close()
        raise
    return sock


async def _listens(sock: socket.socket, what: str) -> tuple[ProbeResult, str]:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(MOMENT):
            said = await loop.sock_recv(sock, 1)
            return ("success", f"{what}speaks") if said else ("failure", f"{what}closed at once")
    sock.send(b"\n", socket.MSG_OOB)
    sock.shutdown(socket.SHUT_WR)
    said = await loop.sock_recv(sock, 1)
    return "success", f"{what}{'speaks' if said else 'listens'}"


async def _expect(text: str, sock: socket.socket, what: str) -> tuple[ProbeResult, str]:
    loop = asyncio.get_running_loop()
    wanted = text.encode()
    said = bytearray()
    while wanted not in said:
        left = MOST_BYTES - len(said)
        chunk = await loop.sock_recv(sock, left) if left else b""
        if not chunk:
            heard = bytes(said[:60]).decode("utf-8", "replace")
            return "failure", f"{what}said {heard!r}, not {text!r}"
        said += chunk
    return "success", f"{what}said {text!r}"
