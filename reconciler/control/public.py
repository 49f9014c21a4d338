"""The read-only face: metrics and health over TCP, beside the page; there is nothing to change here."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from reconciler.control.failures import Handler
from reconciler.engine.operator import Operator

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The Prometheus text format."""


def public_routes(operator: Operator, render_metrics: Callable[[], bytes]) -> list[web.RouteDef]:
    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=render_metrics(), headers={"Content-Type": METRICS_TYPE})

    async def healthz(_: web.Request) -> web.Response:
        return _yes_or_no(operator.live(), "a part of the daemon has not moved lately")

    async def readyz(_: web.Request) -> web.Response:
        return _yes_or_no(operator.ready(), "the first pass is not done")

    return [
        web.get("/metrics", metrics),
        web.get("/healthz", healthz),
        web.get("/readyz", readyz),
    ]


def _yes_or_no(yes: bool, why_not: str) -> web.Response:  # noqa: FBT001 - it is the whole question
    return web.Response(text="ok\n" if yes else f"{why_not}\n", status=200 if yes else 503)


@web.middleware
async def only_reading(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse every method but reading ones, on any path, before a handler sees it."""
    if request.method not in ("GET", "HEAD"):
        raise web.HTTPMethodNotAllowed(request.method, ("GET", "HEAD"))
    return await handler(request)
