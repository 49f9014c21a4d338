"""The pages' addresses, and the rules that browsers are given with every answer."""

from __future__ import annotations

from functools import lru_cache

from aiohttp import web

from reconciler.control.access import Access, includes
from reconciler.control.error_responses import StoppingError, json_answer
from reconciler.control.page.acting import PATH, Acting
from reconciler.control.page.frame import ASSETS, STAMPS, Pieces, asset, document
from reconciler.control.page.live import View, updates
from reconciler.control.page.views import Views
from reconciler.control.streams import Followers
from reconciler.engine.api import EngineAPI

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
    """What is shown here, and what may be asked for; who may is decided before a request comes here."""

    def __init__(
        self, operator: EngineAPI, followers: Followers, access: Access, acting: Acting
    ) -> None:
        self._operator = operator
        self._followers = followers
        self._access = access
        self._views = Views(operator)
        self._acting = acting

    def routes(self) -> list[web.RouteDef]:
        """All routes, for an aiohttp application; `POST /act` only if a token may act."""
        acting = [web.post(PATH, self._acting.act)] if self._access.acts else []
        return [
            *acting,
            web.get("/", self.fleet),
            web.get("/vm/{name}", self.vm),
            web.get("/group/{name}", self.group),
            web.get("/commits", self.commits),
            web.get("/images", self.images),
            web.get("/api/status", self.status),
            web.get("/events", self.events, allow_head=False),
            web.get("/page/{stamp}/{name}", self.asset),
        ]

    async def fleet(self, request: web.Request) -> web.Response:
        """`GET /`: all VMs; `q` searches, `page` counts from 1."""
        return await self._page(request, {"view": "fleet", **_given(request, "q", "page")})

    async def vm(self, request: web.Request) -> web.Response:
        """`GET /vm/NAME`; `a` and `b` are generations to compare."""
        return await self._page(request, {"view": "vm", **_given(request, "a", "b")})

    async def group(self, request: web.Request) -> web.Response:
        """`GET /group/NAME`."""
        return await self._page(request, {"view": "group"})

    async def commits(self, request: web.Request) -> web.Response:
        """`GET /commits`."""
        return await self._page(request, {"view": "commits"})

    async def images(self, request: web.Request) -> web.Response:
        """`GET /images`."""
        return await self._page(request, {"view": "images"})

    async def _page(self, request: web.Request, query: dict[str, str]) -> web.Response:
        query |= request.match_info
        pieces = await self._views.of(query)
        if not pieces.shape:
            return _html(document(pieces, events=None), request, status=404)
        more = self._acting.beside(self._access.right_of(request), query)
        return _html(document(pieces, events=query, here=request.path_qs, more=more), request)

    async def status(self, _: web.Request) -> web.Response:
        """`GET /api/status`: the HostStatus as JSON, as on the control socket."""
        return json_answer(self._operator.status())

    async def events(self, request: web.Request) -> web.StreamResponse:
        """`GET /events`: server-sent events that keep a page up to date; its query names the page."""
        query = _given(request, "view", "name", "q", "page", "a", "b")

        async def pieces() -> Pieces:
            if not includes(self._access.right_of(request), "read"):
                raise StoppingError("the session is over")
            return await self._views.of(query)

        view = View(pieces, self._views.recent, self._operator)
        changes = updates(view, request.query.get("seen", ""), self._followers)
        return await self._followers.stream(request, "text/event-stream", changes)

    async def asset(self, request: web.Request) -> web.Response:
        """`GET /page/STAMP/NAME`: a script, style sheet or icon; kept for ever if the stamp is right."""
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


async def add_rules(_: web.Request, answer: web.StreamResponse) -> None:
    """For `on_response_prepare`: every answer of the listener has them, errors and streams too."""
    for name, rule in RULES.items():
        answer.headers.setdefault(name, rule)
