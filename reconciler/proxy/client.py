"""The engine's client of the proxy: reads its routes, changes them, and starts it when it is needed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

from reconciler.endpoints import dial, is_held
from reconciler.errors import ProxyError
from reconciler.host import layout
from reconciler.model.machine import RouteTarget, RoutingTable
from reconciler.model.names import InstanceId, VMName
from reconciler.proxy import messages as wire

LOOK_DEADLINE = 1.0
CHANGE_DEADLINE = 15.0
"""Seconds, with those that its start takes on a busy host."""
NOTHING_ANNOUNCED = 5.0
"""Seconds for which a proxy that did not answer is not asked again for its routes: passes must go on."""
DRAIN_PAUSE = 0.05
DIAL_PAUSE = 0.05
SILENCE = (
    "the proxy does not answer: its ports may lead nowhere; look at it with"
    " `systemctl status reconciler-front`, or at its folder's front.log"
)

UNREACHABLE = (
    "the proxy cannot be reached: there is no {}; systemctl restart reconciler-front.socket"
    " (`systemctl stop reconciler-front.service` first, if it says that the service is active)"
)

Starter = Callable[[], Awaitable[None]]
"""Starts the proxy where no socket of systemd does."""


class ProxyClient:
    """One connection, kept while the proxy has routes: when it ends, so has the proxy."""

    def __init__(
        self, folder: Path, wake: Callable[[], None], start: Starter | None = None
    ) -> None:
        self._folder = folder
        self._wake = wake
        self._start = start
        self._line: _Line | None = None
        self._dialling = asyncio.Lock()
        self._table: dict[VMName, RouteTarget] = {}
        self._version = -1
        self._silent_until = 0.0
        self._asking = 0
        """Questions under way, for which the connection must not be given up."""

    async def look(self) -> RoutingTable:
        """See `PortProxy` in the engine's interfaces."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._silent_until:
            return RoutingTable(error=SILENCE)
        try:
            async with asyncio.timeout(LOOK_DEADLINE):
                if (answer := await self._asked()) is None:
                    return RoutingTable(error=self._absence())
            if "led" in answer:
                self._table = wire.unpack_all(answer)
            self._version = answer.get("version", -1)
        except (TimeoutError, wire.MalformedMessage):
            self._leave()
            self._silent_until = loop.time() + NOTHING_ANNOUNCED
            return RoutingTable(error=SILENCE)
        if not self._table:
            self._leave()  # so that it may end
        return RoutingTable(dict(self._table))

    def _absence(self) -> str:
        """Why a proxy that does not run could not be started by its socket either; empty if it could."""
        socket_path = layout.proxy_socket(self._folder)
        if self._start is None and not socket_path.exists():
            return UNREACHABLE.format(socket_path)
        return ""

    async def reach(self) -> None:
        """See `PortProxy` in the engine's interfaces."""
        await self._ask({"do": "table", "unless": self._version})

    async def _asked(self) -> dict[str, Any] | None:
        """Its answer; None if none runs, or one is just being started and has no routes yet."""
        while self._runs():
            try:
                line = await self._connected(start=False)
                return await line.ask({"do": "table", "unless": self._version})
            except OSError:  # it is about to end, and lets go of its sockets before its lock
                self._leave()
                await asyncio.sleep(DIAL_PAUSE)
        return None

    async def route(self, vm: VMName, target: RouteTarget | None) -> None:
        """See `PortProxy` in the engine's interfaces."""
        wanted = target if target is not None and target.routes else None
        if wanted is None and not self._runs():
            return
        answer = await self._ask(
            {"do": "lead", "vm": vm, **(wire.pack(wanted) if wanted is not None else {})}
        )
        if "error" in answer:
            raise ProxyError(
                str(answer["error"])[:300],
                kind="port" if answer.get("kind") == "port" else "front",
                hint=str(answer.get("hint", ""))[:200],
            )

    async def drained(self, vm: VMName, instance: InstanceId | None, most: float) -> None:
        """See `PortProxy` in the engine's interfaces."""
        if instance is None or most <= 0:
            return
        with contextlib.suppress(ProxyError, TimeoutError):
            async with asyncio.timeout(most):
                open_still = {"do": "open", "vm": vm, "instance": instance}
                while (await self._ask(open_still)).get("open"):  # noqa: ASYNC110 - as below
                    await asyncio.sleep(DRAIN_PAUSE)

    async def close(self) -> None:
        """Hang up; the proxy runs on."""
        self._hang_up()

    async def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """Raises ProxyError."""
        self._asking += 1
        try:
            async with asyncio.timeout(CHANGE_DEADLINE):
                line = await self._connected(start=True)
                return await line.ask(message)
        except TimeoutError as error:
            self._hang_up()
            raise ProxyError(f"no answer within {CHANGE_DEADLINE:g} s", hint=SILENCE) from error
        except (OSError, wire.MalformedMessage) as error:
            self._hang_up()
            raise ProxyError(f"it cannot be asked: {error}"[:300], hint=SILENCE) from error
        finally:
            self._asking -= 1

    async def _connected(self, *, start: bool) -> _Line:
        async with self._dialling:
            if self._line is None:
                if start and self._start is not None and not self._runs():
                    await self._start()
                self._line = await self._dial(patient=start)
            return self._line

    async def _dial(self, *, patient: bool) -> _Line:
        loop = asyncio.get_running_loop()
        sock = await self._patiently() if patient else dial(layout.proxy_socket(self._folder))
        _, line = await loop.create_unix_connection(lambda: _Line(self._ended), sock=sock)
        return line

    async def _patiently(self) -> socket.socket:
        """Dial a proxy that was just started, and may not listen yet."""
        while True:
            try:
                return dial(layout.proxy_socket(self._folder))
            except OSError:
                await asyncio.sleep(DIAL_PAUSE)

    def _runs(self) -> bool:
        """Whether a proxy runs; one whose lock we may not read does not, for us."""
        try:
            return is_held(layout.proxy_lock(self._folder))
        except OSError:
            return False

    def _leave(self) -> None:
        if not self._asking:
            self._hang_up()

    def _hang_up(self) -> None:
        if self._line is not None:
            line, self._line = self._line, None
            line.close()
        self._table, self._version = {}, -1

    def _ended(self, line: _Line) -> None:
        if self._line is line:  # and we did not hang up
            self._line = None
            self._table, self._version = {}, -1
            self._wake()


class _Line(asyncio.Protocol):
    """Questions and answers, each a line, in order."""

    def __init__(self, ended: Callable[[_Line], None]) -> None:
        self._ended = ended
        self._waiting: deque[asyncio.Future[dict[str, Any]]] = deque()
        self._heard = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """Raises OSError when the other side hangs up."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the proxy hung up")
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        self._transport.write(wire.encode(message))
        return await answer

    def data_received(self, data: bytes) -> None:
        self._heard += data
        if len(self._heard) > 2 * wire.MOST_BYTES:
            self.close()
            return
        *lines, rest = bytes(self._heard).split(b"\n")
        self._heard = bytearray(rest)
        for line in lines:
            answer = self._waiting.popleft() if self._waiting else None
            if answer is None or answer.done():
                continue  # who asked has given up
            try:
                answer.set_result(wire.decode(line))
            except wire.MalformedMessage as error:
                answer.set_exception(error)

    def connection_lost(self, _exc: Exception | None) -> None:
        for answer in self._waiting:
            if not answer.done():
                answer.set_exception(ConnectionResetError("the proxy hung up"))
        self._waiting.clear()
        self._ended(self)
