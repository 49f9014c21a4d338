"""The routes that change something, for those who know the token; without one there are none."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web

from reconciler.control.bodies import REQUEST, parse_body, to_request
from reconciler.control.failures import BadQuestionError
from reconciler.control.page.forms import actions, back_to, sign_in_page, signed_out
from reconciler.control.page.frame import document
from reconciler.control.page.html import Html
from reconciler.control.page.sessions import (
    MOST_ACTIONS,
    MOST_FAILURES,
    Pace,
    Seconds,
    Session,
    Sessions,
)
from reconciler.control.page.token import Token
from reconciler.engine.operator import Operator
from reconciler.errors import LedgerError, RequestRefused
from reconciler.model.names import VMName
from reconciler.model.record import VMRecord

log = logging.getLogger(__name__)

OPERATIONS = frozenset(("retry", "rollback", "promote", "suspend", "resume"))
"""What the page offers of all that the control socket takes."""
MOST_BODY, MOST_FIELDS = 4096, 10
BODY_SECONDS = 10.0
FORM = "application/x-www-form-urlencoded"
PATHS = frozenset(("/login", "/logout", "/act"))


class Forbidden(web.HTTPForbidden):
    """Refused before it meant anything; the reason helps nobody who should not be here."""

    def __init__(self, why: str) -> None:
        super().__init__(reason=why)


class Acting:
    """Sign-in by a form, then a cookie and a word in each form that only our own pages know."""

    def __init__(self, operator: Operator, token: Token, seconds: Seconds) -> None:
        self._operator = operator
        self._token = token
        self._sessions = Sessions(seconds)
        self._failures = Pace(MOST_FAILURES, seconds)
        self._actions = Pace(MOST_ACTIONS, seconds)

    def beside(self, request: web.Request, query: Mapping[str, str]) -> Html:
        """What stands beside a page."""
        session = self._sessions.of(request)
        if session is None:
            return signed_out()
        record = self._record(query.get("name", "")) if query.get("view") == "vm" else None
        return actions(session, query, record)

    async def sign_in_form(self, _: web.Request) -> web.Response:
        return _page(document(sign_in_page(), events=None))

    async def sign_in(self, request: web.Request) -> web.StreamResponse:
        _same_origin(request)
        if self._failures.full():
            trouble = "Too many wrong tokens were tried. Wait a minute."
            return _page(document(sign_in_page(trouble), events=None), status=429)
        fields = await _fields(request)
        if not self._token.matches(fields.get("token", "")):
            self._failures.count()
            log.warning("a wrong token on the page", extra={"fields": {"from": request.remote}})
            return _page(document(sign_in_page("That is not the token."), events=None), status=403)
        answer = _see("/")
        self._sessions.begin(answer)
        log.info("signed in on the page", extra={"fields": {"from": request.remote}})
        return answer

    async def sign_out(self, request: web.Request) -> web.StreamResponse:
        await self._checked(request)
        answer = _see("/")
        self._sessions.end(request, answer)
        return answer

    async def act(self, request: web.Request) -> web.StreamResponse:
        session, fields = await self._checked(request)
        if self._actions.full():
            raise web.HTTPTooManyRequests(reason="too many actions within a minute: wait")
        self._actions.count()
        session.told = await self._do(fields)
        groups = frozenset(str(group.name) for group in self._operator.status().groups)
        return _see(back_to(fields, groups))

    async def _checked(self, request: web.Request) -> tuple[Session, dict[str, str]]:
        """Of our own page, of somebody who signed in, and with the word of that session."""
        _same_origin(request)
        session = self._sessions.of(request)
        if session is None:
            raise Forbidden("sign in first")
        fields = await _fields(request)
        if not session.owns(fields.pop("csrf", "")):
            raise Forbidden("this form is not of this session: load the page again")
        return session, fields

    async def _do(self, fields: dict[str, str]) -> tuple[str, bool]:
        """What was done, in words; or why it was not."""
        if fields.get("op") not in OPERATIONS:
            raise BadQuestionError("the page does not offer this")
        body: dict[str, str | int] = {key: text for key, text in fields.items() if text}
        if fields.get("to", "").isdecimal():
            body["to"] = int(fields["to"])
        request = to_request(parse_body(REQUEST, json.dumps(body).encode()))
        try:
            return await self._operator.request(request, by="page"), True
        except (RequestRefused, LedgerError) as error:
            return f"{error}{f' ({error.hint})' if error.hint else ''}", False

    def _record(self, name: str) -> VMRecord | None:
        try:
            return self._operator.vm_record(VMName(name))
        except RequestRefused:
            return None


def _same_origin(request: web.Request) -> None:
    """A browser says which page a form is of; one that does not say is not obeyed."""
    origin = urlsplit(request.headers.get("Origin", ""))
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    if origin.scheme not in ("http", "https") or origin.netloc != request.host:
        raise Forbidden("this form is not of this page")
    if site != "same-origin":
        raise Forbidden("this form is of another site")


async def _fields(request: web.Request) -> dict[str, str]:
    """Raises BadQuestionError."""
    if request.content_type != FORM or (request.content_length or 0) > MOST_BODY:
        raise BadQuestionError("a small form is expected")
    try:
        async with asyncio.timeout(BODY_SECONDS):
            raw = await request.content.read(MOST_BODY + 1)
            while not request.content.at_eof() and len(raw) <= MOST_BODY:
                raw += await request.content.read(MOST_BODY + 1 - len(raw))
    except TimeoutError as error:
        raise BadQuestionError("the form did not come in time") from error
    if len(raw) > MOST_BODY:
        raise BadQuestionError("a small form is expected")
    try:
        pairs = parse_qsl(raw.decode("utf-8", "replace"), max_num_fields=MOST_FIELDS)
    except ValueError as error:
        raise BadQuestionError("a form of few fields is expected") from error
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise BadQuestionError("a field is given twice")
    return fields


def _page(text: Html, status: int = 200) -> web.Response:
    kept = {"Cache-Control": "no-store"}
    return web.Response(text=text, status=status, content_type="text/html", headers=kept)


def _see(address: str) -> web.Response:
    """Not raised: an answer that is raised loses its cookies."""
    return web.Response(status=303, headers={"Location": address, "Cache-Control": "no-store"})
