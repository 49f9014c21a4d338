"""The faces under strangers' bytes: raw HTTP goes into real connections whose far end is in memory."""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from aiohttp import web

from reconciler.config import HttpConfig, parse_config
from reconciler.control.connections import Connections, Peer
from reconciler.control.servers import serve_control, serve_http
from reconciler.control.webhook import Webhook
from tests.unit.control.fake_operator import FakeOperator, StillClock
from tests.unit.control.opening import access

SECRET = b"a secret of some length"
STEPS = 40
"""Turns of the loop that one input has; whatever still runs is hung up on."""
MOST_TASKS = 50
SECONDS = 10.0
SERVER_ERROR = re.compile(rb"^HTTP/1\.[01] 5(?!03)", re.MULTILINE)
TOKEN = access("an acting token of some length").token("read")
HEAD = f"Authorization: Bearer {TOKEN}\n"
METHODS = ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE")
OPERATIONS = (
    '{"op":"retry","vm":"web-a"}', '{"op":"suspend","reason":"x","seconds":1.5}',
    '{"op":"rollback","vm":"web-a","to":1}', '{"op":"confirm","revision":"4f2c9d1"}',
)  # fmt: skip
FORMS = ("op=retry&vm=web-a&word=x", "token=x", "op=suspend&subject=front&reason=%C3%A4")
OUTSIDE_PATH = re.compile(rb"[^!-~]")
OUTSIDE_NAME = re.compile(rb"[^0-9A-Za-z-]")
OUTSIDE_VALUE = re.compile(rb"[\x00-\x1f\x7f]")
OURS = frozenset({b"host", b"content-length", b"transfer-encoding"})
WORDS = (
    "GET ", "POST ", "HEAD ", "PUT ", " HTTP/1.1\r\n", " HTTP/1.0\r\n", "\nHost: localhost\r\n", "\r\n\r\n", "\n", "\n\n",
    "Content-Length: ", "Transfer-Encoding: chunked\r\n", "Cookie: reconciler=", "Origin: http://localhost\r\n",
    "Content-Type: application/x-www-form-urlencoded\r\n", "Content-Type: application/json\r\n",
    "Authorization: Bearer ", "X-Gitlab-Token: ", "X-Hub-Signature-256: sha256=", "X-GitHub-Event: push\r\n",
    "Expect: 100-continue\r\n", "Upgrade: websocket\r\n", "/v1/", "?limit=", "&follow=true", "%00", "%2e%2e%2f",
    '{"op": "retry", "vm": "web-a"}', '{"op":', "op=retry&vm=web-a", "\\ud800", "\x00", "\xff", "0\r\n\r\n",
)  # fmt: skip


class FarEnd(asyncio.Transport):
    """The peer's side of a connection."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 50_000), "sockname": ("127.0.0.1", 9188)})
        self.got = bytearray()
        self._closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.got += data

    def is_closing(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True

    def abort(self) -> None:
        self._closed = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def is_reading(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


class Troubles(logging.Handler):
    """Keeps what was logged as an error: a request must be able to cause none."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(logging.Formatter().format(record))


class Faces:
    """Both faces of a daemon, open, with a loop of their own."""

    def __init__(self) -> None:
        logging.getLogger().handlers[:] = [troubles := Troubles()]
        logging.getLogger().setLevel(logging.ERROR)
        self._troubles = troubles.found
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(
            lambda _loop, context: troubles.found.append(repr(context))
        )
        self._folder = Path(tempfile.mkdtemp(prefix="faces-"))
        self._loop.run_until_complete(self._open(self._folder))

    async def _open(self, folder: Path) -> None:
        operator = FakeOperator(folder / "console.log")
        config = parse_config(
            {"source": {"url": "file:///repo"}, "control_socket": str(folder / "s")}, "fuzz"
        )
        rights = access("an acting token of some length")
        self._control = await serve_control(operator, config, StillClock(), rights)
        webhook = Webhook(SECRET, lambda: None, lambda _server, _result: None)
        self._http = await serve_http(
            operator, lambda: b"x 1\n", HttpConfig(port=0), rights, webhook=webhook
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.run_until_complete(self._control.close())
        self._loop.run_until_complete(self._http.close())
        self._loop.close()
        shutil.rmtree(self._folder)

    def request(self, data: bytes) -> bytes:
        """A connection to either face. Raises AssertionError.

        The first byte says which face, and whether what follows is raw, or a path, headers and a body
        on lines of their own, of which a request is made that is well formed.
        """
        how, rest = data[0] if data else 0, data[1:]
        face = self._http if how & 0x80 else self._control
        raw = rest if how & 0x40 else request_of(METHODS[how & 7], *parts_of(rest))
        return self._loop.run_until_complete(self._exchange(face, raw))

    def webhook(self, data: bytes) -> bytes:
        """Headers and body of a POST to the webhook. Raises AssertionError."""
        _, headers, body = parts_of(b"\n" + data)
        raw = request_of("POST", b"/webhook", headers, body)
        return self._loop.run_until_complete(self._exchange(self._http, raw))

    async def _exchange(self, face: Any, raw: bytes) -> bytes:
        server: web.Server = face._runner.server
        peer, far = Peer(Connections(8), server, loop=self._loop, access_log=None), FarEnd()
        peer.connection_made(far)
        peer.data_received(raw)
        for _ in range(STEPS):
            await asyncio.sleep(0)
            if far.is_closing() or (far.got and peer.idle):
                break
        peer.connection_lost(None)
        await asyncio.sleep(0)
        if len(asyncio.all_tasks()) > MOST_TASKS:
            await self._hang_up()
        assert not self._troubles, self._troubles
        assert not SERVER_ERROR.search(far.got), bytes(far.got[:2000])
        return bytes(far.got)

    async def _hang_up(self) -> None:
        """Streams whose reader has gone notice it at their next line, and here no time passes."""
        streams = asyncio.all_tasks() - {asyncio.current_task()}
        for task in streams:
            task.cancel()
        await asyncio.wait(streams, timeout=SECONDS)
        left = [task for task in streams if not task.done()]
        assert not left, f"tasks that nothing ends: {left}"

    def seeds(self) -> list[bytes]:
        """A request for each route, in both forms, and some that carry bodies."""
        found = []
        for which, face in ((0, self._control), (0x80, self._http)):
            app: Any = face._runner.app
            for route in app.router.routes():
                path = route.resource.canonical.replace("{vm}", "web-a").replace("{name}", "web-a")
                how = which | METHODS.index(route.method if route.method in METHODS else "GET")
                found.append(bytes([how]) + f"{path}\n{HEAD}\n".encode())
                raw = request_of(METHODS[how & 7], path.encode(), HEAD.encode().splitlines(), b"")
                found.append(bytes([how | 0x40]) + raw)
        for op in OPERATIONS:
            found.append(b"\x01" + f"/v1/request\n{HEAD}\n{op}".encode())  # noqa: PERF401
        for form in FORMS:
            words = f"{HEAD}Content-Type: application/x-www-form-urlencoded\n"
            found += [b"\x81" + f"{path}\n{words}\n{form}".encode() for path in ("/act", "/login")]
        for path in ("/v1/events?limit=5&after=1", "/v1/plan?ref=main", "/v1/diff/web-a?a=1&b=2"):
            found.append(b"\x00" + f"{path}\n{HEAD}\n".encode())
        return found


def parts_of(data: bytes) -> tuple[bytes, list[bytes], bytes]:
    """A path on the first line, a header on each of the next, and a body after an empty line."""
    head, _, body = data.partition(b"\n\n")
    path, *headers = head.split(b"\n")
    return path, headers, body


def request_of(method: str, path: bytes, headers: Sequence[bytes], body: bytes) -> bytes:
    """HTTP that a parser takes, whatever its parts hold."""
    target = b"/" + OUTSIDE_PATH.sub(lambda found: b"%%%02X" % found[0][0], path.lstrip(b"/"))
    lines = [b"%b %b HTTP/1.1" % (method.encode(), target), b"Host: localhost"]
    for header in headers:
        name, _, value = header.partition(b":")
        if (name := OUTSIDE_NAME.sub(b"", name)) and name.lower() not in OURS:
            lines.append(name + b": " + OUTSIDE_VALUE.sub(b"", value.strip()))
    lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def webhook_seeds() -> list[bytes]:
    heads = (
        f"X-Gitlab-Event: Push Hook\nX-Gitlab-Token: {SECRET.decode()}\n",
        "X-GitHub-Event: push\nX-Hub-Signature-256: sha256=00\n",
        "X-Gitea-Event: push\nX-Gitea-Signature: 00\n",
        "X-Event-Key: repo:push\nX-Hub-Signature: sha256=00\nContent-Type: application/json\n",
        f"X-Gitlab-Event: Tag Push Hook\nX-Gitlab-Token: {SECRET.decode()}\nContent-Encoding: gzip\n",
    )
    return [f'{head}\n{{"ref":"main"}}'.encode() for head in heads]
