"""Signing in and out: a token becomes a session, which the page's script keeps for its own origin."""

from __future__ import annotations

import logging

from aiohttp import web

from reconciler.control.access import Access, credential, includes
from reconciler.control.error_responses import ForbiddenError, json_answer
from reconciler.control.page.forms import fields_of, same_origin
from reconciler.control.page.frame import sign_in_document

log = logging.getLogger(__name__)

PATHS = frozenset(("/login", "/logout"))
NO_STORE = {"Cache-Control": "no-store"}


class Signing:
    """The routes that begin and end sessions."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def routes(self) -> list[web.RouteDef]:
        """All routes, for an aiohttp application."""
        return [
            web.get("/login", self.form),
            web.post("/login", self.begin),
            web.post("/logout", self.end),
        ]

    async def form(self, _: web.Request) -> web.Response:
        """`GET /login`: the page that asks for a token."""
        return web.Response(text=sign_in_document(), content_type="text/html", headers=NO_STORE)

    async def begin(self, request: web.Request) -> web.Response:
        """`POST /login` with `token`: a session as JSON. Raises ForbiddenError or ThrottledError."""
        same_origin(request)
        given = (await fields_of(request)).get("token", "")
        right = self._access.right_of_token(given)
        if right is None or not includes(right, "read"):
            raise await self._access.failed(request, ForbiddenError("That is not the token."))
        log.info("signed in on the page", extra={"fields": {"from": request.remote, "may": right}})
        answer = json_answer({"session": self._access.begin(right)})
        answer.headers.update(NO_STORE)
        return answer

    async def end(self, request: web.Request) -> web.Response:
        """`POST /logout`: the session in the Authorization header is over."""
        same_origin(request)
        self._access.end(credential(request.headers.get("Authorization")) or "")
        return json_answer({"done": "signed out"})
