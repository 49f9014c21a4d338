"""The check `tcp`: a peer that says what is expected, or that is really there behind the connection.

User networking accepts on the guest's behalf, before it knows whether the guest listens, or has
booted at all; and it goes on accepting for a guest that hangs. An open connection proves nothing:

    the guest refuses        the connection is closed at once, or reset as our byte was never read
    the guest is not there   the connection stays open, and silent for ever
    somebody listens         hears that we have no more to say, and closes, or speaks

So a check without `expect` waits a moment, then ends its side of the connection, and passes when
the peer closes or speaks in time. The one byte that it sends is urgent data, which a server does not
find in its stream: while it lies unread, a refusal that comes late is a reset and not a close.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

from reconciler.model.checks import TcpCheck
from reconciler.model.health import ProbeResult
from reconciler.probe.asker import MOST_BYTES, AskedGuest, brief, is_ours

MOMENT = 0.05
"""Seconds that a silent connection must stay open; a booted guest refuses within milliseconds."""


class TcpAsker:
    """Asks anything that listens; keeps nothing between two questions."""

    async def ask(self, check: TcpCheck, guest: AskedGuest) -> tuple[ProbeResult, str]:  # noqa: ARG002 - of any guest
        return await ask(check)

    async def close(self) -> None:
        """It holds nothing open."""


async def ask(check: TcpCheck) -> tuple[ProbeResult, str]:
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
    """One that does not block, and that reaches nothing but what is on this interface. Raises OSError."""
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
