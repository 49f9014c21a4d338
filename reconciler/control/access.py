"""Who may read and act on the TCP listener: a client with a token, or with a session that a token began.

Tokens and sessions come in the `Authorization` header alone, which a browser sends only where a page of
ours puts it: no cookie, which browsers send to every port of a host, so also to a guest's page there.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
import secrets
from collections.abc import Callable
from typing import Literal

from aiohttp import web

from reconciler.control.error_responses import ThrottledError, UnauthorizedError
from reconciler.errors import ReconcilerError

log = logging.getLogger(__name__)

Right = Literal["metrics", "read", "act"]
"""Each includes those before it."""
RIGHTS: tuple[Right, ...] = ("metrics", "read", "act")
LASTS = 12 * 3600
"""Seconds of a session."""
DELAY = 1.0
"""Seconds before a wrong token is answered."""
MOST_DELAYED = 8
"""Wrong tokens that are answered late at one time; more are refused at once. Right ones never wait."""
MOST_ENDED = 1000
"""Sessions that people ended and that are remembered; the oldest is forgotten first."""
LONGEST = 1024


class Access:
    """Tokens and sessions. Only digests of what others chose are kept."""

    def __init__(
        self, key: bytes, wall: Callable[[], float], acting: str = "", *, port: int = 0,
        delay: float = DELAY,
    ) -> None:  # fmt: skip
        """`key`: a secret that only the daemon has. `acting`: the token that allows acting, if any does.

        `port`: where sessions are of use.
        """
        self._key = key
        self._wall = wall
        self._delay = delay
        self._delayed = 0
        self._ended: dict[str, None] = {}
        # With another token of the operator, the sessions that the old one began are over. With another
        # port too: browsers keep a session for the old one, where a guest's page may stand from now on.
        purpose = f"session:{port}:{acting}"
        self._session_key = self._derived(purpose.encode("utf-8", "replace"))
        given: list[tuple[Right, str]] = [
            ("metrics", self.token("metrics")), ("read", self.token("read")),
        ]  # fmt: skip
        self._digests = [(right, _digest(token)) for right, token in given]
        if acting:
            self._digests.append(("act", _digest(acting)))
        self.acts = bool(acting)

    def token(self, right: Literal["metrics", "read"]) -> str:
        """The same for the life of the key, so that a scraper may keep it."""
        return base64.urlsafe_b64encode(self._derived(right.encode())[:24]).decode()

    def begin(self, right: Right) -> str:
        """A session with the right of the token that was shown."""
        until = int(self._wall() + LASTS)
        name = f"{right}.{until}.{secrets.token_urlsafe(12)}"
        return f"{name}.{self._mac(name)}"

    def end(self, session: str) -> None:
        """Sign out."""
        self._ended[session] = None
        while len(self._ended) > MOST_ENDED:
            del self._ended[next(iter(self._ended))]

    def right_of_token(self, given: str) -> Right | None:
        """In a time that tells nothing of the tokens."""
        digest, found = _digest(given), None
        for right, known in self._digests:
            if hmac.compare_digest(digest, known):
                found = right
        return found

    def right_of(self, request: web.Request) -> Right | None:
        """What this request may do; None without a credential. Raises UnauthorizedError for a wrong one."""
        return self.right_of_header(request.headers.get("Authorization"))

    async def checked(self, request: web.Request) -> Right | None:
        """The same, and a wrong one is answered late."""
        try:
            return self.right_of(request)
        except UnauthorizedError as error:
            raise await self.failed(request, error) from None

    def right_of_header(self, header: str | None) -> Right | None:
        """The same of an `Authorization`."""
        given = credential(header)
        if given is None:
            return None
        if (right := self.right_of_token(given)) is not None:
            return right
        name, _, mac = given.rpartition(".")
        parts = name.split(".")
        if hmac.compare_digest(mac.encode("utf-8", "replace"), self._mac(name).encode()):
            if given in self._ended or self._wall() >= int(parts[1]):
                return None
            return next(right for right in RIGHTS if right == parts[0])
        raise UnauthorizedError("that is no token or session of this host")

    async def failed(self, request: web.Request, error: ReconcilerError) -> ReconcilerError:
        """The answer to a wrong token: late, or at once where too many are; right ones are not slowed."""
        log.warning("a wrong token", extra={"fields": {"from": request.remote}})
        if self._delayed >= MOST_DELAYED:
            return ThrottledError("too many wrong tokens at once", hint="wait a second")
        self._delayed += 1
        try:
            await asyncio.sleep(self._delay)
        finally:
            self._delayed -= 1
        return error

    def _derived(self, purpose: bytes) -> bytes:
        return hmac.new(self._key, purpose, hashlib.sha256).digest()

    def _mac(self, name: str) -> str:
        return hmac.new(
            self._session_key, name.encode("utf-8", "replace"), hashlib.sha256
        ).hexdigest()


def includes(right: Right | None, wanted: Right) -> bool:
    """Whether `right` allows what needs `wanted`; None allows nothing."""
    return right is not None and RIGHTS.index(right) >= RIGHTS.index(wanted)


def credential(header: str | None) -> str | None:
    """Of `Authorization: Bearer X`, or X as the password of `Basic`; empty if it is neither."""
    if header is None:
        return None
    scheme, _, rest = header[:LONGEST].partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(rest.strip(), validate=True).decode().partition(":")[2]
        except ValueError:  # no base64, or no text in it
            return ""
    return ""


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()
