"""The TCP listener: metrics and health beside the page; only the page's forms change anything."""

from __future__ import annotations

from collections.abc import Callable, Collection

from aiohttp import web
from aiohttp.typedefs import Middleware

from reconciler.control.access import Access
from reconciler.control.error_responses import Handler
from reconciler.engine.api import EngineAPI

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The Prometheus text format."""


OPENMETRICS = "application/openmetrics-text"
OPENMETRICS_TYPE = f"{OPENMETRICS}; version=1.0.0; charset=utf-8"


ASK_ON_THE_HOST = "not ready: `reconciler status` on the host says why"


def public_routes(
    operator: EngineAPI, render_metrics: Callable[..., bytes], access: Access
) -> list[web.RouteDef]:
    """`render_metrics`: the plain text, or OpenMetrics with `openmetrics=True`."""

    async def metrics(request: web.Request) -> web.Response:
        if OPENMETRICS in request.headers.get("Accept", ""):
            body, form = render_metrics(openmetrics=True), OPENMETRICS_TYPE
        else:
            body, form = render_metrics(), METRICS_TYPE
        return web.Response(body=body, headers={"Content-Type": form})

    async def healthz(_: web.Request) -> web.Response:
        return _yes_or_no(operator.live(), "a part of the daemon has not moved lately")

    async def readyz(request: web.Request) -> web.Response:
        why = operator.unready()
        if why and await access.checked(request) is None:  # it names places of this host
            why = ASK_ON_THE_HOST
        return _yes_or_no(not why, why)

    return [
        web.get("/metrics", metrics),
        web.get("/healthz", healthz),
        web.get("/readyz", readyz),
    ]


def _yes_or_no(yes: bool, why_not: str) -> web.Response:  # noqa: FBT001 - it is the whole question
    return web.Response(text="ok\n" if yes else f"{why_not}\n", status=200 if yes else 503)


def only_reading(posted: Collection[str] = ()) -> Middleware:
    """Refuse every method but reading ones, on any path but these, before a handler sees it."""

    @web.middleware
    async def refuse(request: web.Request, handler: Handler) -> web.StreamResponse:
        may_post = request.method == "POST" and request.path in posted
        if request.method not in ("GET", "HEAD") and not may_post:
            raise web.HTTPMethodNotAllowed(request.method, ("GET", "HEAD"))
        return await handler(request)

    return refuse
