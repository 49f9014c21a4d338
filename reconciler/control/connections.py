"""Connections of a listener: bounded before they are accepted, so that strangers never take what the daemon needs.

At the bound a new connection takes the place of the one that has been idle for longest, or of a stranger
whose question or answer never ends; while all are busy with people who may ask, it waits in the kernel's
backlog. asyncio's own servers accept whatever comes, and out of descriptors
try again many times a second with a traceback each.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

log = logging.getLogger(__name__)

FEWEST, MOST = 8, 256
"""Connections of one listener."""
SHARE = 4
"""Of the descriptors that this process may have, one part in so many: two listeners leave half of them for
guests, probes, builds and the ledger."""
BACKLOG = 128
PAUSE = 1.0
"""Seconds before accepting is tried again on a host without descriptors or memory."""
SERVER = "reconciler"
"""What answers say of the program: neither library nor version."""


def most_connections() -> int:
    """By the limit of descriptors as it is now."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(FEWEST, min(MOST, soft // SHARE))


class Peer(web.RequestHandler):
    """One connection; what is not HTTP gets a short answer and one line in the log."""

    __slots__ = ("_connections", "entitled")

    def __init__(self, connections: Connections, server: web.Server, **options: Any) -> None:
        super().__init__(server, **options)
        self._connections = connections
        self.entitled = not connections.strangers
        """Who asks may do so: the answer under way is not ended to make room for others."""

    @property
    def idle(self) -> bool:
        """No request of it is being answered; the head of one may be under way."""
        return not self._request_in_progress

    def abort(self) -> None:
        """Hang up now; what was not sent yet is dropped."""
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Called by asyncio at the end of the connection; `exc` is why, None for an orderly end."""
        super().connection_lost(exc)
        self._connections.lost(self)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Called by aiohttp after each answer: its connection is the one idle for the shortest time."""
        finished = await super().finish_response(request, resp, start_time)
        self._connections.answered(self)
        return finished

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  it quotes the request
    ) -> web.StreamResponse:
        """In place of the library's, which logs a traceback for each, and says its version."""
        if isinstance(exc, UnicodeError) and "Expect" in request.headers:
            status = HTTPStatus.EXPECTATION_FAILED  # the library cannot quote what is no text
        ours = status >= HTTPStatus.INTERNAL_SERVER_ERROR
        why = "" if exc is None else f"{type(exc).__name__}: {exc}"
        fields = {"from": request.remote, "why": why[:200]}
        log.log(
            logging.ERROR if ours else logging.WARNING,
            "a request could not be answered" if ours else "a request was malformed",
            exc_info=exc if ours else None, extra={"fields": fields},
        )  # fmt: skip
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        answer = web.Response(
            status=status, text=f"{HTTPStatus(status).phrase}\n", headers={"Server": SERVER}
        )
        answer.force_close()
        return answer

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """What is left of a body is read after an answer, too; that it cannot be decoded is its sender's fault."""
        if not isinstance(kw.get("exc_info"), web.RequestPayloadError | HttpProcessingError):
            super().log_exception(*args, **kw)
            return
        fields = {"why": f"{type(kw['exc_info']).__name__}: {kw['exc_info']}"[:200]}
        log.warning("a request was malformed", extra={"fields": fields})


class Connections:
    """Those of one listener, the one that was idle for longest first."""

    def __init__(self, most: int | None = None, *, strangers: bool = False) -> None:
        """`strangers`: anybody can connect; who may ask is found by `with_a_right` for each request."""
        self.strangers = strangers
        self._most = most_connections() if most is None else most
        self._peers: dict[Peer, None] = {}
        self._coming = 0
        self._waiting: list[Callable[[], None]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def count(self) -> int:
        """Open connections, with those that are being set up."""
        return len(self._peers) + self._coming

    def has_room(self, when_there_is: Callable[[], None]) -> bool:
        """Whether one more may be accepted; if not, one makes room, and the callback comes once."""
        if self.count < self._most:
            return True
        self._waiting.append(when_there_is)
        if (dispensable := self._dispensable()) is not None:
            dispensable.abort()
        return False

    def _dispensable(self) -> Peer | None:
        """The idlest; else the stranger who has been answered for longest, and may never read it."""
        idle = (peer for peer in self._peers if peer.idle)
        strangers = (peer for peer in self._peers if not peer.entitled)
        return next(idle, None) or next(strangers, None)

    def take(self, accepted: socket.socket, server: web.Server, options: dict[str, Any]) -> None:
        """Serve an accepted connection."""
        accepted.settimeout(0)
        self._coming += 1
        task = asyncio.get_running_loop().create_task(self._serve(accepted, server, options))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(
        self, accepted: socket.socket, server: web.Server, options: dict[str, Any]
    ) -> None:
        loop = asyncio.get_running_loop()
        peer = Peer(self, server, loop=loop, **options)
        try:
            await loop.connect_accepted_socket(lambda: peer, accepted)
        except OSError:
            accepted.close()
            loop.call_soon(self._go_on)
        finally:
            self._coming -= 1
        if peer.transport is not None:  # else it has left already
            self._peers[peer] = None

    def answered(self, peer: Peer) -> None:
        """The request of this connection is over: the next one shows its token again."""
        peer.entitled = not self.strangers
        if self._peers.pop(peer, peer) is None:
            self._peers[peer] = None

    def lost(self, peer: Peer) -> None:
        """The connection has ended, and leaves room for another."""
        self._peers.pop(peer, None)
        # The transport closes its descriptor after this call.
        asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call()


class BoundedSite(web.BaseSite):
    """Listening sockets whose connections are counted."""

    def __init__(
        self,
        runner: web.AppRunner,
        connections: Connections,
        listeners: list[socket.socket],
        options: dict[str, Any],
    ) -> None:
        """`options` are those of aiohttp's RequestHandler."""
        super().__init__(runner)
        self._connections = connections
        self._listeners = listeners
        self._options = options

    @property
    def name(self) -> str:
        """Where it listens, for aiohttp's messages."""
        return str([listener.getsockname() for listener in self._listeners])

    @property
    def port(self) -> int:
        """The TCP port of the first socket."""
        return int(self._listeners[0].getsockname()[1])

    async def start(self) -> None:
        """Raises OSError, and then nothing listens."""
        await super().start()
        for listener in self._listeners:
            listener.settimeout(0)
            listener.listen(BACKLOG)
        for listener in self._listeners:
            self._watch(listener)

    async def stop(self) -> None:
        """Accept no more, and wait for the answers under way."""
        self.close()
        await super().stop()

    def close(self) -> None:
        """Accept no more, at once."""
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            loop.remove_reader(listener)
            listener.close()
        self._listeners = []

    def _watch(self, listener: socket.socket) -> None:
        if listener in self._listeners:  # it may have been closed meanwhile
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        """One connection a call, so that the bound is asked before each."""
        loop = asyncio.get_running_loop()
        if not self._connections.has_room(lambda: self._watch(listener)):
            loop.remove_reader(listener)
            return
        try:
            accepted, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionError):
            return
        except OSError as error:
            fields = {"why": error.strerror, "connections": self._connections.count}
            log.error("no connection can be accepted", extra={"fields": fields})
            loop.remove_reader(listener)
            loop.call_later(PAUSE, self._watch, listener)
            return
        server = self._runner.server
        if server is None:
            accepted.close()
            return
        self._connections.take(accepted, server, self._options)


async def listeners_on(address: str, port: int) -> list[socket.socket]:
    """Bound sockets of every address that a name has. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(
        address or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    made: list[socket.socket] = []
    try:
        for family, _, _, _, place in dict.fromkeys(found):
            listener = socket.socket(family, socket.SOCK_STREAM)
            made.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(place)
    except OSError:
        for listener in made:
            listener.close()
        raise
    return made
