"""Opening and closing the two listeners of the daemon."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from reconciler.clock import Clock
from reconciler.config import Config, HttpConfig
from reconciler.control.access import Access
from reconciler.control.connections import SERVER, BoundedSite, Connections, listeners_on
from reconciler.control.error_responses import answer_failures
from reconciler.control.guard import by_known_name, known_names, with_a_right
from reconciler.control.http_api import Api
from reconciler.control.listener import claim, identity, release
from reconciler.control.page.acting import PATH, Acting
from reconciler.control.page.routes import PageRoutes, add_rules
from reconciler.control.page.sign_in import PATHS, Signing
from reconciler.control.streams import Followers
from reconciler.control.tcp_site import only_reading, public_routes
from reconciler.control.webhook import Webhook
from reconciler.engine.api import EngineAPI
from reconciler.errors import ConfigError

log = logging.getLogger(__name__)

MOST_BODY = 64 * 1024
IDLE_SECONDS = 90.0
"""For the head of a request, the first one too: who connects and says nothing is not kept for longer."""
LOOK_SECONDS = 5.0
"""Between looks whether the control socket is still where people look for it."""
CLOSING_SECONDS = 2.0
"""What answers under way get to end when a listener closes; streams end at once."""
UNREAD_SECONDS = 30.0
"""For a browser that follows a page and reads nothing: it comes back by itself."""
LINGERING_SECONDS = 1.0
"""For the rest of a body that was answered before it had come whole."""


class ControlListener:
    """The open control socket; one that systemd listens on is not ours to remove or to renew."""

    def __init__(self, runner: web.AppRunner, path: Path, given: socket.socket | None) -> None:
        self._runner = runner
        self._connections = Connections()
        self._given = given
        self._site: BoundedSite | None = None
        self._identity: tuple[int, int] | None = None
        self.path = path

    async def open(self) -> None:
        """Listen, also again. Raises ConfigError."""
        listener = self._given
        if listener is None:
            listener = await asyncio.to_thread(claim, self.path)
        site = BoundedSite(self._runner, self._connections, [listener], _options())
        former, self._site = self._site, site
        self._identity = None if self._given else identity(self.path)
        await self._site.start()
        if former is not None:
            await former.stop()

    async def keep(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Until cancelled: make the socket again when it is removed, as cleaners of /run do."""
        logged = ""
        while True:
            await sleep(LOOK_SECONDS)
            if self._given is not None or identity(self.path) == self._identity:
                continue
            fields = {"socket": str(self.path)}
            try:
                await self.open()
            except ConfigError as error:
                if str(error) != logged:
                    log.warning("the control socket is gone: %s", error, extra={"fields": fields})
                logged = str(error)
            else:
                logged = ""
                log.warning(
                    "the control socket was gone, and is there again", extra={"fields": fields}
                )

    async def close(self) -> None:
        """End all streams and answers, and remove the socket if it is still ours."""
        release(self.path, self._identity)
        await self._runner.cleanup()


class HttpListener:
    """The open TCP port."""

    def __init__(self, runner: web.AppRunner, port: int) -> None:
        self._runner = runner
        self.port = port

    async def close(self) -> None:
        """End all streams and answers."""
        await self._runner.cleanup()


async def serve_control(
    operator: EngineAPI, config: Config, clock: Clock, access: Access,
    given: socket.socket | None = None,
) -> ControlListener:  # fmt: skip
    """Open the control API, on a socket that was given or on `control_socket`. Raises ConfigError."""
    path = Path(given.getsockname() if given else config.control_socket)
    followers = Followers()
    app = web.Application(middlewares=[answer_failures], client_max_size=MOST_BODY)
    app.add_routes(Api(operator, clock, followers, access).routes())
    app.on_shutdown.append(ending(followers))
    runner = _runner(app)
    await runner.setup()
    listener = ControlListener(runner, path, given)
    try:
        await listener.open()
    except ConfigError:
        await runner.cleanup()
        raise
    return listener


async def serve_http(
    operator: EngineAPI, render_metrics: Callable[..., bytes], http: HttpConfig, access: Access,
    given: socket.socket | None = None, *, webhook: Webhook | None = None,
) -> HttpListener:  # fmt: skip
    """Open the TCP listener, on a socket that was given or on a port; port 0 takes a free one.

    `access` says who may read and act. Raises ConfigError.
    """
    posted = [*PATHS, *([PATH] if access.acts else ()), *([webhook.path] if webhook else ())]
    checks = [
        answer_failures, by_known_name(known_names(http.names)), only_reading(posted),
        with_a_right(access, [webhook.path] if webhook else ()),
    ]  # fmt: skip
    app = web.Application(middlewares=checks, client_max_size=MOST_BODY)
    followers = Followers(UNREAD_SECONDS)
    acting = Acting(operator, access, asyncio.get_running_loop().time)
    app.add_routes(public_routes(operator, render_metrics, access))
    app.add_routes(Signing(access).routes())
    app.add_routes(PageRoutes(operator, followers, access, acting).routes())
    if webhook is not None:
        app.add_routes(webhook.routes())
    app.on_response_prepare.append(add_rules)
    app.on_shutdown.append(ending(followers))
    runner = _runner(app)
    await runner.setup()
    try:
        listeners = [given] if given else await listeners_on(http.address, http.port)
        site = BoundedSite(runner, Connections(strangers=True), listeners, _options())
        await site.start()
    except OSError as error:
        await runner.cleanup()
        raise ConfigError(
            f"http: cannot listen on {http.address}:{http.port}: {error.strerror}",
            hint="set http.address and http.port to what is free on this host",
        ) from error
    return HttpListener(runner, site.port)


def ending(followers: Followers) -> Callable[[web.Application], Awaitable[None]]:
    """For `on_shutdown`: streams end at once."""

    async def end_streams(_: web.Application) -> None:
        followers.closing.set()

    return end_streams


def _runner(app: web.Application) -> web.AppRunner:
    app.on_response_prepare.append(unsigned)
    return web.AppRunner(app, shutdown_timeout=CLOSING_SECONDS)


def _options() -> dict[str, Any]:
    # No access log: a scrape every few seconds would bury the log's own story.
    return {
        "access_log": None, "keepalive_timeout": IDLE_SECONDS, "lingering_time": LINGERING_SECONDS,
    }  # fmt: skip


async def unsigned(_: web.Request, answer: web.StreamResponse) -> None:
    """For `on_response_prepare`: no answer names the library and its version."""
    answer.headers["Server"] = SERVER
