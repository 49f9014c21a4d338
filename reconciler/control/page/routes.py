"""The pages' addresses, and the rules that browsers are given with every answer."""

from __future__ import annotations

import ipaddress
import socket
from functools import lru_cache

from aiohttp import web

from reconciler.control.failures import Handler, json_answer
from reconciler.control.page.acting import Acting
from reconciler.control.page.frame import ASSETS, STAMPS, Pieces, asset, document
from reconciler.control.page.live import View, updates
from reconciler.control.page.views import Views
from reconciler.control.streams import Followers
from reconciler.engine.operator import Operator

RULES = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
FOR_EVER = "public, max-age=31536000, immutable"


class PageRoutes:
    """What is shown here, everybody who reaches the port may know; who acts needs the token."""

    def __init__(
        self, operator: Operator, followers: Followers, acting: Acting | None = None
    ) -> None:
        self._operator = operator
        self._followers = followers
        self._views = Views(operator)
        self._acting = acting
        """None: nothing can be changed here."""

    def routes(self) -> list[web.RouteDef]:
        acting = self._acting
        changing = [
            web.get("/login", by_known_name(acting.sign_in_form)),
            web.post("/login", by_known_name(acting.sign_in)),
            web.post("/logout", by_known_name(acting.sign_out)),
            web.post("/act", by_known_name(acting.act)),
        ] if acting is not None else []  # fmt: skip
        return [
            *changing,
            web.get("/", by_known_name(self.fleet)),
            web.get("/vm/{name}", by_known_name(self.vm)),
            web.get("/group/{name}", by_known_name(self.group)),
            web.get("/commits", by_known_name(self.commits)),
            web.get("/api/status", by_known_name(self.status)),
            web.get("/events", by_known_name(self.events), allow_head=False),
            web.get("/page/{stamp}/{name}", self.asset),
        ]

    async def fleet(self, request: web.Request) -> web.Response:
        return await self._page(request, {"view": "fleet", **_given(request, "q", "page")})

    async def vm(self, request: web.Request) -> web.Response:
        return await self._page(request, {"view": "vm", **_given(request, "a", "b")})

    async def group(self, request: web.Request) -> web.Response:
        return await self._page(request, {"view": "group"})

    async def commits(self, request: web.Request) -> web.Response:
        return await self._page(request, {"view": "commits"})

    async def _page(self, request: web.Request, query: dict[str, str]) -> web.Response:
        query |= request.match_info
        pieces = await self._views.of(query)
        if not pieces.shape:
            return _html(document(pieces, events=None), request, status=404)
        more = self._acting.beside(request, query) if self._acting is not None else None
        return _html(document(pieces, events=query, here=request.path_qs, more=more), request)

    async def status(self, _: web.Request) -> web.Response:
        return json_answer(self._operator.status())

    async def events(self, request: web.Request) -> web.StreamResponse:
        query = _given(request, "view", "name", "q", "page", "a", "b")

        async def pieces() -> Pieces:
            return await self._views.of(query)

        view = View(pieces, self._views.recent, self._operator)
        told = updates(view, request.query.get("seen", ""), self._followers)
        return await self._followers.stream(request, "text/event-stream", told)

    async def asset(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in ASSETS:
            raise web.HTTPNotFound
        fresh = request.match_info["stamp"] == STAMPS[name]
        kept = {"Cache-Control": FOR_EVER if fresh else "no-store"}
        return web.Response(
            body=_asset(name), content_type=ASSETS[name], charset="utf-8", headers=kept
        )


def _given(request: web.Request, *names: str) -> dict[str, str]:
    return {name: request.query[name] for name in names if request.query.get(name)}


def _html(text: str, request: web.Request, status: int = 200) -> web.Response:
    answer = web.Response(
        text=text, status=status, content_type="text/html", headers={"Cache-Control": "no-store"}
    )
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        answer.enable_compression(web.ContentCoding.gzip)
    return answer


@lru_cache(maxsize=len(ASSETS))
def _asset(name: str) -> bytes:
    return asset(name)


def by_known_name(handler: Handler) -> Handler:
    """Answer only to an address or to this host's own name.

    A foreign page whose name was made to point here could read the answers otherwise, in the
    browser of somebody who may reach this port.
    """

    async def checked(request: web.Request) -> web.StreamResponse:
        if not is_known(request.url.host or ""):
            text = "ask by this host's address or by its own name\n"
            return web.Response(text=text, status=421)
        return await handler(request)

    return checked


def is_known(name: str) -> bool:
    own = socket.gethostname().lower()
    bare = name.lower().rstrip(".")
    if bare in ("localhost", own, own.split(".")[0]) or bare.startswith(f"{own.split('.')[0]}."):
        return True
    try:
        ipaddress.ip_address(bare.strip("[]"))
    except ValueError:
        return False
    return True


async def add_rules(_: web.Request, answer: web.StreamResponse) -> None:
    """For `on_response_prepare`: every answer of the face has them, errors and streams too."""
    for name, rule in RULES.items():
        answer.headers.setdefault(name, rule)
