"""The check `http`: one GET on a new connection, without redirects, with a bounded body and one deadline."""

from __future__ import annotations

import asyncio
import re
import socket
from urllib.parse import quote

import aiohttp
from yarl import URL

from reconciler.model.checks import HttpCheck
from reconciler.model.health import ProbeResult
from reconciler.model.names import InstanceId
from reconciler.probe.asker import MOST_BYTES, AskedGuest, brief, is_ours
from reconciler.probe.tcp import open_socket

KEPT = "/%?&=:@!$'()*+,;~"
"""Characters of a path that are not escaped; `%` is one, because paths may be written escaped already."""
INSTANCE_HEADER = "X-Instance-Id"
WHOLE = r"(?<![\w-]){}(?![\w-])"
INSTANCE = re.compile(WHOLE.format(r"[a-z0-9][-a-z0-9]*-g[0-9]+-[0-9a-f]+"), re.ASCII)
"""Matches any instance id, to name the other guest in a detail."""
MOST_HEADER_BYTES = 256
"""Bytes of the header with the instance id; the server is not trusted to keep it short."""
HEADERS = {"User-Agent": "microvm-reconciler", "Accept": "*/*", "Connection": "close"}


class HttpAsker:
    """Asks web servers, with one session for each interface of this host."""

    def __init__(self) -> None:
        self._sessions: dict[str, aiohttp.ClientSession] = {}

    async def ask(self, check: HttpCheck, guest: AskedGuest) -> tuple[ProbeResult, str]:
        """The result, with a detail such as `GET :8080/ -> 503`."""
        session = self._sessions.get(check.device)
        if session is None:
            session = self._sessions[check.device] = open_session(check.device)
        return await ask(check, session, guest.instance)

    async def close(self) -> None:
        """Close all sessions."""
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()


def open_session(device: str = "") -> aiohttp.ClientSession:
    """A session without cookies, proxies or kept connections.

    A kept connection could lead to the previous guest, so each check opens its own. `device`: the
    interface of this host to which connections are bound; empty for any.
    """

    def bound(address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, _ = address
        return open_socket(family, kind, protocol, device)

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            force_close=True, limit=0, use_dns_cache=False, socket_factory=bound
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
    )


async def ask(
    check: HttpCheck, session: aiohttp.ClientSession, instance: InstanceId
) -> tuple[ProbeResult, str]:
    """Run the check in a session. `instance`: the id that the answer must name, if the check says so."""
    what = f"GET :{check.port}{check.path} -> "
    try:
        # One timeout around everything: aiohttp rounds its own up if they exceed 5 s.
        async with asyncio.timeout(check.timeout):
            return await _get(check, session, instance, what)
    except TimeoutError:
        return "failure", f"{what}no answer within {check.timeout:g} s"
    except aiohttp.ClientConnectorDNSError as error:
        return "error", f"{what}{brief(error)}"
    except OSError as error:  # many of aiohttp's errors are OSErrors
        return "error" if is_ours(error) else "failure", f"{what}{brief(error)}"
    except aiohttp.ClientError as error:
        return "failure", f"{what}{brief(error)}"
    except ValueError as error:  # host or path cannot form a URL
        return "error", f"{what}{brief(error)}"


async def _get(
    check: HttpCheck, session: aiohttp.ClientSession, instance: InstanceId, what: str
) -> tuple[ProbeResult, str]:
    async with session.get(
        _url(check), headers=HEADERS, allow_redirects=False, timeout=aiohttp.ClientTimeout()
    ) as response:
        body = await _body(response)
        low, high = check.status
        if not low <= response.status <= high:
            return "failure", f"{what}{response.status}"
        if check.contains.encode() not in body:
            return "failure", f"{what}{response.status} without {check.contains!r}"
        if check.expect_instance and (stranger := _stranger(response, body, instance)):
            return "failure", f"{what}{response.status} {stranger}"
        return "success", f"{what}{response.status}"


def _stranger(response: aiohttp.ClientResponse, body: bytes, instance: InstanceId) -> str:
    """Empty if the answer names this instance; otherwise a text about what answered instead."""
    header = response.headers.get(INSTANCE_HEADER, "")[:MOST_HEADER_BYTES]
    said = header or body.decode("utf-8", "replace")
    if re.search(WHOLE.format(re.escape(instance)), said, re.ASCII):
        return ""
    if (named := INSTANCE.search(said)) is not None:
        return f"from {named[0]}, not from {instance}: another guest answers"
    return f"without the guest's id {instance}, which it finds in /run/reconciler/instance"


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """Read the body to its end or limit, because a server that stalls halfway must fail the check."""
    body = bytearray()
    while len(body) < MOST_BYTES:
        chunk = await response.content.read(MOST_BYTES - len(body))
        if not chunk:
            break
        body += chunk
    return bytes(body)


def _url(check: HttpCheck) -> URL:
    """The URL, built from parts so that a path can inject neither another host nor a header."""
    path, _, query = quote(check.path, safe=KEPT).partition("?")
    if not path.startswith("/"):
        path = f"/{path}"
    return URL.build(
        scheme="http",
        host=check.host,
        port=check.port,
        path=path,
        query_string=query,
        encoded=True,
    )
