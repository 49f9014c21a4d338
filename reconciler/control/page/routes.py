"""The pages' addresses, and the rules that browsers are given with every answer."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable
from functools import lru_cache

from aiohttp import web

from reconciler.control.console import ConsoleReader
from reconciler.control.failures import json_answer
from reconciler.control.page.fleet import fleet_page
from reconciler.control.page.frame import ASSETS, STAMPS, Pieces, asset, document
from reconciler.control.page.html import clean
from reconciler.control.page.live import Recent, View, updates
from reconciler.control.page.vm import missing_page, vm_page
from reconciler.control.streams import Followers
from reconciler.engine.operator import Operator
from reconciler.errors import RequestRefused
from reconciler.model.names import NAME_RE, GenerationNumber, VMName
from reconciler.model.plan import FieldChange
from reconciler.model.record import VMRecord

CONSOLE_LINES = 100
MOST_KEPT = 16
"""Searches whose page is kept until the fleet changes."""
LONGEST_SEARCH = 100
RULES = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
FOR_EVER = "public, max-age=31536000, immutable"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class PageRoutes:
    """Reads only: what is shown here, everybody who reaches the port may know."""

    def __init__(self, operator: Operator, followers: Followers) -> None:
        self._operator = operator
        self._followers = followers
        self._recent = Recent(operator)
        self._fleets: dict[str, tuple[tuple[object, object], Pieces]] = {}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", by_known_name(self.fleet)),
            web.get("/vm/{vm}", by_known_name(self.vm)),
            web.get("/api/status", by_known_name(self.status)),
            web.get("/events", by_known_name(self.events), allow_head=False),
            web.get("/page/{stamp}/{name}", self.asset),
        ]

    async def fleet(self, request: web.Request) -> web.Response:
        wanted = _wanted(request)
        pieces = await self._fleet(wanted)
        return _html(document(pieces, events={"q": wanted}, home=not wanted), request)

    async def vm(self, request: web.Request) -> web.Response:
        name = request.match_info["vm"]
        pieces = await self._vm(name)
        if not pieces.shape:
            return _html(document(pieces, events=None), request, status=404)
        return _html(document(pieces, events={"vm": name}), request)

    async def status(self, _: web.Request) -> web.Response:
        return json_answer(self._operator.status())

    async def events(self, request: web.Request) -> web.StreamResponse:
        wanted, name = _wanted(request), request.query.get("vm")

        async def pieces() -> Pieces:
            return await (self._vm(name) if name is not None else self._fleet(wanted))

        view = View(pieces, self._recent, self._operator)
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

    async def _fleet(self, wanted: str) -> Pieces:
        events, status = await self._recent.follow(), self._operator.status()
        kept = self._fleets.get(wanted)
        if kept is not None and kept[0][0] is status and kept[0][1] is events:
            return kept[1]
        pieces = fleet_page(status, events, wanted)
        self._fleets.pop(wanted, None)
        self._fleets[wanted] = ((status, events), pieces)
        if len(self._fleets) > MOST_KEPT:
            del self._fleets[next(iter(self._fleets))]
        return pieces

    async def _vm(self, name: str) -> Pieces:
        await self._recent.follow()
        found = next((vm for vm in self._operator.status().vms if vm.name == name), None)
        if found is None or not NAME_RE.fullmatch(name):
            return missing_page(name[:LONGEST_SEARCH])
        record = self._record(found.name)
        return vm_page(found, record, self._differ(found.name), self._console(found.name, record))

    def _record(self, name: VMName) -> VMRecord | None:
        try:
            return self._operator.vm_record(name)
        except RequestRefused:  # declared, but nothing was done for it yet
            return None

    def _console(self, name: VMName, record: VMRecord | None) -> str:
        if record is None:
            return ""
        tail = ConsoleReader(self._operator.console(name)).tail(CONSOLE_LINES)
        return "\n".join(map(_console_line, tail.split(b"\n"))).strip("\n")

    def _differ(
        self, name: VMName
    ) -> Callable[[GenerationNumber, GenerationNumber], tuple[FieldChange, ...]]:
        def differ(a: GenerationNumber, b: GenerationNumber) -> tuple[FieldChange, ...]:
            try:
                return self._operator.difference(name, a, b)
            except RequestRefused:  # dropped meanwhile
                return ()

        return differ


def _console_line(raw: bytes) -> str:
    """Serial consoles end lines with CR LF, and redraw them with CR."""
    return clean(raw.decode("utf-8", "replace").rstrip("\r\n").rsplit("\r", 1)[-1])


def _wanted(request: web.Request) -> str:
    return " ".join(request.query.get("q", "").split())[:LONGEST_SEARCH]


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
