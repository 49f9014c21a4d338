"""Answers without an end: events and consoles, followed until the peer leaves or the daemon stops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Coroutine, Iterator
from typing import Any, TypeVar

from aiohttp import web

from reconciler.control.console_tail import ConsoleReader
from reconciler.control.error_responses import BusyError, StoppingError
from reconciler.control.serialization import encode
from reconciler.engine.api import EngineAPI
from reconciler.model.event import Event
from reconciler.model.store_status import ImageCheck

log = logging.getLogger(__name__)
T = TypeVar("T")

MOST_FOLLOWERS = 64
"""Streams at one time; each costs a wake-up a second and a buffer of some 64 KiB."""
PAGE = 500
EVENT_WAIT = 1.0
"""Seconds; also how late a stream may notice that its peer has left."""
CONSOLE_PERIOD = 0.2
"""Seconds between looks at a console log; well below what a reader notices."""


class Followers:
    """Counts streams, and ends them all when the listener closes."""

    def __init__(self, patience: float = 3600.0) -> None:
        """`patience`: how long a peer may read nothing before its place is given to others.

        An hour for people at a terminal, who may have stopped their pager.
        """
        self._patience = patience
        self.closing = asyncio.Event()
        self._count = 0

    @contextlib.contextmanager
    def one_more(self) -> Iterator[None]:
        """Raises BusyError."""
        if self._count >= MOST_FOLLOWERS:
            raise BusyError(f"{MOST_FOLLOWERS} streams are open already", hint="end some of them")
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1

    async def unless_closing(self, work: Coroutine[Any, Any, T]) -> T:
        """Its result; a long question must not delay the daemon's end. Raises StoppingError."""
        task = asyncio.ensure_future(work)
        closing = asyncio.ensure_future(self.closing.wait())
        try:
            await asyncio.wait({task, closing}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise StoppingError("the daemon is stopping", hint="ask again when it is back")
        finally:
            task.cancel()
            closing.cancel()

    async def pause(self, seconds: float) -> None:
        """Wait for so many seconds, or until the streams end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.closing.wait()

    async def stream(
        self, request: web.Request, content_type: str, pieces: AsyncGenerator[bytes, None]
    ) -> web.StreamResponse:
        """Send pieces as they come; an empty one only asks whether to go on."""
        with self.one_more():
            response = web.StreamResponse(headers={"Content-Type": content_type})
            await response.prepare(request)
            # Past this point no error can be answered any more: the stream just ends.
            try:
                async with contextlib.aclosing(pieces):
                    async for piece in pieces:
                        if self.closing.is_set() or _gone(request):
                            break
                        if piece:
                            async with asyncio.timeout(self._patience):
                                await response.write(piece)
                await response.write_eof()
            except TimeoutError:
                if request.transport is not None:
                    request.transport.abort()  # closing would wait for what is not read
            except (ConnectionError, StoppingError):
                pass
            except Exception:
                log.exception("the stream %s broke", request.path)
            return response


def _gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


async def event_lines(
    operator: EngineAPI, first: list[Event], after: int, followers: Followers
) -> AsyncGenerator[bytes, None]:
    """JSON lines: these events, then each newer one."""
    events = first
    while True:
        yield "".join(encode(event) + "\n" for event in events).encode("ascii")
        if events:
            after = events[-1].sequence
        else:
            await followers.unless_closing(operator.wait_event(after, EVENT_WAIT))
        events = await operator.events(after, PAGE)


async def check_lines(
    checks: AsyncGenerator[ImageCheck, None], followers: Followers
) -> AsyncGenerator[bytes, None]:
    """JSON lines: how far the reading of each image is, and how it ended."""
    async with contextlib.aclosing(checks):
        while (check := await followers.unless_closing(_next(checks))) is not None:
            yield f"{encode(check)}\n".encode("ascii")


async def _next(checks: AsyncGenerator[ImageCheck, None]) -> ImageCheck | None:
    return await anext(checks, None)


async def console_pieces(
    reader: ConsoleReader, lines: int, followers: Followers
) -> AsyncGenerator[bytes, None]:
    """The log's last lines, then what the guest adds."""
    yield reader.tail(lines)
    while True:
        piece = reader.more()
        if not piece:
            await followers.pause(CONSOLE_PERIOD)
        yield piece
