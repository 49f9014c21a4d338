"""What the page posts: small forms, of our own origin alone."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web

from reconciler.control.error_responses import BadQuestionError, ForbiddenError

MOST_BODY, MOST_FIELDS = 4096, 10
BODY_SECONDS = 10.0
FORM = "application/x-www-form-urlencoded"


def same_origin(request: web.Request) -> None:
    """A browser says which page a form is of; one that does not say is not obeyed. Raises ForbiddenError."""
    origin = urlsplit(request.headers.get("Origin", ""))
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    host = request.headers.get("Host", "")
    if origin.scheme not in ("http", "https") or not host or origin.netloc != host:
        raise ForbiddenError("this form is not of this page")
    if site != "same-origin":
        raise ForbiddenError("this form is of another site")


async def fields_of(request: web.Request) -> dict[str, str]:
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
