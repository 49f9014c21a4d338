"""Who asks at the control socket, as the kernel says: for the event that tells of it."""

from __future__ import annotations

import asyncio
import pwd
import socket
import struct

from aiohttp import web

NAME_SECONDS = 1.0
"""For the name of a user: where a directory far away keeps it, it may not come."""
CREDENTIALS = struct.Struct("3i")
"""pid, uid and gid; unix(7), SO_PEERCRED."""


class Callers:
    """Names of users, each looked up at most once at a time."""

    def __init__(self) -> None:
        self._lookups: dict[int, asyncio.Task[str]] = {}

    async def of(self, request: web.Request) -> str:
        """The user's name, or their number; empty if nobody can tell."""
        transport = request.transport
        peer = transport.get_extra_info("socket") if transport is not None else None
        if peer is None or peer.family != socket.AF_UNIX:
            return ""
        raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        _, uid, _ = CREDENTIALS.unpack(raw)
        if uid not in self._lookups or self._lookups[uid].done():
            self._lookups[uid] = asyncio.create_task(asyncio.to_thread(_name_of, uid))
        done, _ = await asyncio.wait([self._lookups[uid]], timeout=NAME_SECONDS)
        return done.pop().result() if done else f"user {uid}"


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
