"""The checks that every request to the TCP listener passes: the name it was sent to, and what it may read."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Collection, Iterable

from aiohttp import web
from aiohttp.typedefs import Middleware

from reconciler.control.access import Access, Right, includes
from reconciler.control.connections import Peer
from reconciler.control.error_responses import (
    CHALLENGE,
    ForbiddenError,
    Handler,
    MisdirectedError,
    UnauthorizedError,
)
from reconciler.control.page.frame import sign_in_document

HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(:[0-9]{1,5})?")
OPEN = frozenset({"/healthz", "/readyz", "/login"})
"""Read without a token: yes or no, and where tokens are shown."""
OPEN_FOLDER = "/page/"
"""Style and script of the page, which are in the package."""
NEEDS: dict[str, Right] = {"/metrics": "metrics", "/act": "act"}
"""Of every other path it is `read`."""
HINT = "send `Authorization: Bearer TOKEN`; `reconciler token` says one on the host"


def known_names(more: Iterable[str] = ()) -> frozenset[str]:
    """Names by which this host is asked, in lower case; addresses are always known."""
    own = socket.gethostname().lower()
    return frozenset({"localhost", own, own.partition(".")[0], *(name.lower() for name in more)})


def is_known(host: str, names: Collection[str]) -> bool:
    """Whether a `Host` header names this host exactly, or is an address."""
    found = HOST.fullmatch(host)
    if found is None:
        return False
    name = found[1].lower()
    if name in names:
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def by_known_name(names: Collection[str]) -> Middleware:
    """Answer only to an address or to this host's own name, on every route.

    A foreign page whose name was made to point here could read the answers otherwise, in the browser
    of a person who may reach this port. Every browser sends `Host`; what sends none is no browser.
    """

    @web.middleware
    async def checked(request: web.Request, handler: Handler) -> web.StreamResponse:
        hosts = request.headers.getall("Host", [])
        if len(hosts) > 1 or not all(is_known(host, names) for host in hosts):
            raise MisdirectedError(
                "this is not a name of this host",
                hint="ask by its address or own name, or add the name to http.names",
            )
        return await handler(request)

    return checked


def with_a_right(access: Access, others: Collection[str] = ()) -> Middleware:
    """Refuse what no token allows, before a handler sees it. `others` ask for proofs of their own."""

    @web.middleware
    async def checked(request: web.Request, handler: Handler) -> web.StreamResponse:
        path = request.path
        if path in OPEN or path in others or path.startswith(OPEN_FOLDER):
            return await handler(request)
        right = await access.checked(request)
        if includes(right, NEEDS.get(path, "read")):
            if isinstance(request.protocol, Peer):
                request.protocol.entitled = True
            return await handler(request)
        if request.method in ("GET", "HEAD") and right is None and _is_navigation(request):
            return sign_in()
        if right is not None:
            raise ForbiddenError("this token does not allow that", hint=HINT)
        raise UnauthorizedError("no token was shown, or the session is over", hint=HINT)

    return checked


def sign_in() -> web.Response:
    """The empty page, whose script shows the session if the browser has one, and else the form."""
    return web.Response(
        text=sign_in_document(), status=401, content_type="text/html",
        headers={"Cache-Control": "no-store", "WWW-Authenticate": CHALLENGE},
    )  # fmt: skip


def _is_navigation(request: web.Request) -> bool:
    return "Authorization" not in request.headers and "text/html" in request.headers.get(
        "Accept", ""
    )
