"""Sends a message as one HTTP POST: no redirects, no cookies, and a bounded answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from reconciler.clock import Clock
from reconciler.config import HttpSinkConfig
from reconciler.errors import DeliveryError
from reconciler.http_proxies import UnsupportedProxy, proxy_for
from reconciler.notify.message import LONGEST_LINE, Message, plain
from reconciler.notify.secrets import read_secret

MOST_ANSWER = 4096
GOOD = range(200, 300)
REJECTED = {400, 413, 422}
"""Statuses that refuse the content itself: sending the same bytes again would fail again."""
HEADERS = {"User-Agent": "microvm-reconciler", "Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class HTTPRequest:
    """A POST request: address, body and extra headers."""

    url: str
    body: bytes
    headers: dict[str, str]


class HttpSink:
    """A sink over HTTP. `request_of` makes the request for a message, at a unix time."""

    def __init__(self, request_of: Callable[[Message, float], HTTPRequest], clock: Clock) -> None:
        self._request_of = request_of
        self._clock = clock

    async def send(self, message: Message) -> None:
        """Send one message. Raises DeliveryError without the address, which may be a secret."""
        try:
            await self._send(message)
        except UnsupportedProxy as error:
            raise DeliveryError(str(error), kind="network", hint=error.hint) from None
        except aiohttp.InvalidURL:
            # Without the error's text: it contains the address, which may be a secret.
            raise DeliveryError("url: not an address", kind="secret", hint="correct it") from None
        except (aiohttp.ClientError, OSError) as error:
            words = (
                type(error).__name__ if isinstance(error, aiohttp.ClientResponseError) else error
            )
            raise DeliveryError(plain(f"{words}", LONGEST_LINE), kind="network") from None

    async def _send(self, message: Message) -> None:
        request = self._request_of(message, self._clock.now().wall)
        # Proxies from the environment apply, ~/.netrc does not; trust_env would use both.
        # One connection for each message: messages are rare, and a kept one would be dead by then.
        async with (
            aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trust_env=False
            ) as session,
            session.post(
                request.url,
                data=request.body,
                headers=HEADERS | request.headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(),
                proxy=proxy_for(request.url),
            ) as answer,
        ):
            said = await answer.content.read(MOST_ANSWER)
            if answer.status in GOOD:
                return
            words = plain(f"HTTP {answer.status}: {said.decode('utf-8', 'replace')}", LONGEST_LINE)
            if answer.status in REJECTED:
                raise DeliveryError(words, kind="refused", hint="see what the receiver says")
            raise DeliveryError(words, kind="answer", hint="see what the receiver says")

    async def close(self) -> None:
        """Nothing to close: connections live for one message."""


def encoded(body: object) -> bytes:
    """JSON as compact ASCII."""
    return json.dumps(body, ensure_ascii=True, separators=(",", ":")).encode()


def url_of(config: HttpSinkConfig) -> str:
    """The address of the receiver, which may be a secret. Raises DeliveryError."""
    return config.url or read_secret(config.url_file)
