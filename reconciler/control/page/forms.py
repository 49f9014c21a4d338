"""The forms of the page: what a person who signed in may do, and how a form is read when it comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlsplit

from aiohttp import web
from markupsafe import Markup

from reconciler.control.error_responses import BadQuestionError, ForbiddenError
from reconciler.control.page.rendering import macro
from reconciler.model.record import VMRecord

TEMPLATE = "actions.html"
LONGEST_REASON = 200


@dataclass(frozen=True, slots=True)
class Form:
    """A button that sends these fields, with what a person may choose or write beside it."""

    verb: str
    fields: Sequence[tuple[str, str]]
    choices: Sequence[int] = ()
    """Generations to go back to, the newest first."""
    reason: int = 0
    """The longest reason in characters; 0: none is asked for."""


def only_reading(*, acts: bool) -> Markup:
    """For people whose token only shows; `acts`: whether this host has a token that acts."""
    return macro(TEMPLATE, "only_reading", acts)


def actions(query: Mapping[str, str], record: VMRecord | None) -> Markup:
    """For what a page shows: the host, a group or a VM."""
    name = query.get("name", "")
    match query.get("view"):
        case "vm":
            forms = _of_vm(name, record)
        case "group":
            promote = Form("Promote", [("op", "promote"), ("group", name)])
            forms = [promote, *_suspension(f"group {name}", [("subject", f"group/{name}")])]
        case _:
            forms = _suspension("this host", [])
    return macro(TEMPLATE, "actions", forms)


def _of_vm(name: str, record: VMRecord | None) -> list[Form]:
    forms = [Form("Retry", [("op", "retry"), ("vm", name)])]
    good = [g.number for g in record.generations if g.verdict == "committed"] if record else []
    if len(good) > 1:
        fields = [("op", "rollback"), ("vm", name)]
        forms.append(Form("Roll back", fields, choices=good[-2::-1]))
    return [*forms, *_suspension(name, [("subject", f"vm/{name}")])]


def _suspension(what: str, subject: list[tuple[str, str]]) -> list[Form]:
    return [
        Form(f"Suspend {what}", [("op", "suspend"), *subject], reason=LONGEST_REASON),
        Form(f"Resume {what}", [("op", "resume"), *subject]),
    ]


def back_to(fields: Mapping[str, str], groups: frozenset[str]) -> str:
    """The page of what was acted on."""
    if "vm" in fields:
        return f"/vm/{quote(fields['vm'], safe='')}"
    subject = fields.get("group") or fields.get("subject")
    if not subject:
        return "/"
    kind, _, name = subject.rpartition("/")
    return f"/{kind or ('group' if name in groups else 'vm')}/{quote(name, safe='')}"


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
