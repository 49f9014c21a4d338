"""`POST /webhook`: a git server announces a push, and the source is looked at at once.

Only who knows the secret is heard, and what a body says is never read: the worst that a sender can
do is to have the source looked at once more, and that at most once in `BETWEEN` seconds.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from aiohttp import web

from reconciler.control.error_responses import json_answer

MOST_BODY = 1024 * 1024
SECONDS = 10.0
"""In which a body must have come."""
BETWEEN = 1.0
"""Seconds between looks, however many ask."""

Result = Literal[
    "accepted", "bad_signature", "too_large", "rate_limited", "ignored", "malformed"
]  # fmt: skip
STATUS: dict[Result, int] = {
    "accepted": 202, "rate_limited": 202, "ignored": 200,
    "bad_signature": 401, "too_large": 413, "malformed": 400,
}  # fmt: skip
WORDS: dict[Result, str] = {
    "accepted": "the source is looked at now",
    "rate_limited": "the source is looked at in a moment",
    "ignored": "this event says nothing about commits",
    "bad_signature": "the signature or token is missing or wrong: compare both ends' secrets",
    "too_large": f"the body is larger than {MOST_BODY >> 20} MiB; the next look comes by itself",
    "malformed": "no event of a git server that is known here, or the body never came",
}


@dataclass(frozen=True, slots=True)
class ForgeHeaders:
    """How one kind of git server names its events, and proves that it knows the secret."""

    name: str
    event: str
    pushes: frozenset[str]
    proof: str
    prefix: str | None = ""
    """Before the HMAC-SHA256 of the body in hexadecimal; None: the proof is the secret itself."""


# Gitea and Forgejo send GitHub's headers too, so they stand before it.
SERVERS = (
    ForgeHeaders("gitea", "X-Gitea-Event", frozenset({"push", "create"}), "X-Gitea-Signature"),
    ForgeHeaders(
        "gitlab", "X-Gitlab-Event", frozenset({"Push Hook", "Tag Push Hook"}),
        "X-Gitlab-Token", None,
    ),
    ForgeHeaders(
        "github", "X-GitHub-Event", frozenset({"push", "create"}),
        "X-Hub-Signature-256", "sha256=",
    ),
    ForgeHeaders(
        "bitbucket", "X-Event-Key", frozenset({"repo:push", "repo:refs_changed"}),
        "X-Hub-Signature", "sha256=",
    ),
)  # fmt: skip
UNKNOWN = "unknown"


class Webhook:
    """`look` is called on the running loop; `count` gets the server's name and a result."""

    path = "/webhook"

    def __init__(
        self, secret: bytes, look: Callable[[], None], count: Callable[[str, str], None],
        seconds: float = SECONDS,
    ) -> None:  # fmt: skip
        self._secret = secret
        self._look = look
        self._count = count
        self._seconds = seconds
        self._next = 0.0
        self._due: asyncio.TimerHandle | None = None

    def routes(self) -> list[web.RouteDef]:
        """Its one route, for an aiohttp application."""
        return [web.post(self.path, self._receive)]

    async def _receive(self, request: web.Request) -> web.Response:
        server = next((s for s in SERVERS if s.event in request.headers), None)
        result = await self._judge(request, server)
        self._count(server.name if server else UNKNOWN, result)
        answer = json_answer({"result": result, "message": WORDS[result]}, STATUS[result])
        if STATUS[result] >= web.HTTPBadRequest.status_code:
            answer.force_close()  # what else comes of this body is not waited for
        return answer

    async def _judge(self, request: web.Request, server: ForgeHeaders | None) -> Result:
        if server is None:
            return "malformed"
        if server.proof not in request.headers:
            return "bad_signature"
        if (request.content_length or 0) > MOST_BODY:
            return "too_large"
        try:
            async with asyncio.timeout(self._seconds):
                proof = await self._expected(request, server)
        except (TimeoutError, web.HTTPException, web.RequestPayloadError, ConnectionError):
            return "malformed"
        if proof is None:
            return "too_large"
        given = request.headers[server.proof].encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, proof):
            return "bad_signature"
        if request.headers[server.event] not in server.pushes:
            return "ignored"
        return self._ask()

    async def _expected(self, request: web.Request, server: ForgeHeaders) -> bytes | None:
        """The proof that only who knows the secret can give; None: the body is too large.

        The body is not kept: it is hashed as it comes.
        """
        digest, size = hmac.new(self._secret, digestmod=hashlib.sha256), 0
        async for chunk in request.content.iter_any():
            size += len(chunk)
            if size > MOST_BODY:
                return None
            digest.update(chunk)
        if server.prefix is None:
            return self._secret
        return f"{server.prefix}{digest.hexdigest()}".encode()

    def _ask(self) -> Result:
        loop = asyncio.get_running_loop()
        if self._due is not None:
            return "rate_limited"
        wait = self._next - loop.time()
        if wait > 0:
            self._due = loop.call_later(wait, self._ask_now)
            return "rate_limited"
        self._ask_now()
        return "accepted"

    def _ask_now(self) -> None:
        self._due = None
        self._next = asyncio.get_running_loop().time() + BETWEEN
        self._look()
