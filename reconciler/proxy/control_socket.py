"""The proxy's control socket: a peer that may open it sets the routes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

from reconciler.errors import ProxyError
from reconciler.model.names import InstanceId, VMName
from reconciler.proxy import messages as wire
from reconciler.proxy.routing_table import Table

MOST_CLIENTS = 8
"""Connections at once: one daemon, and people who debug."""


class Control:
    """Answers one line with one line, in order."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._clients: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    @property
    def clients(self) -> int:
        """Connections that are open."""
        return len(self._clients)

    async def open(self, sock: socket.socket) -> None:
        """Serve a listening socket. Raises OSError."""
        # Not start_unix_server: since Python 3.13 that asks after the path that the socket was bound by,
        # which may be gone, and removes it at the end, though it is systemd's.
        self._server = await asyncio.start_server(self._serve, sock=sock, limit=wire.MOST_BYTES)

    async def close(self) -> None:
        """Accept no more, and hang up."""
        if self._server is not None:
            self._server.close()
        for writer in tuple(self._clients):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= MOST_CLIENTS:
            writer.close()
            return
        self._clients.add(writer)
        try:
            with contextlib.suppress(OSError, ValueError):  # it hung up, or a line is too long
                while line := await reader.readline():
                    writer.write(wire.encode(self.answer(line)))
                    await writer.drain()
        finally:
            self._clients.discard(writer)
            writer.close()

    def answer(self, line: bytes) -> dict[str, Any]:
        """The answer to one message; an error is an answer with the key `error`."""
        try:
            return self._answer(wire.decode(line))
        except wire.MalformedMessage as error:
            return {"error": str(error), "kind": "malformed"}
        except ProxyError as error:
            return {"error": str(error), "kind": error.kind, "hint": error.hint}

    def _answer(self, said: dict[str, Any]) -> dict[str, Any]:
        table = self._table
        match said.get("do"):
            case "table" if said.get("unless") == table.version:
                return {"version": table.version}
            case "table":
                led = {vm: wire.pack(one) for vm, one in table.targets.items()}
                return {"version": table.version, "led": led}
            case "lead":
                vm = VMName(wire.name(said, "vm"))
                table.route(vm, wire.unpack(said) if said.get("routes") else None)
                return {"version": table.version}
            case "open":
                vm = VMName(wire.name(said, "vm"))
                return {"open": table.open(vm, InstanceId(wire.name(said, "instance")))}
            case _:
                raise wire.MalformedMessage("do: none of table, lead, open")
