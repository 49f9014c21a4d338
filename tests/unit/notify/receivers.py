"""Real receivers on the loopback: one of HTTP, one of mail."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

from aiohttp import web

from tests.unit.probe.servers import serving

MOST = 1 << 20


@dataclass
class Post:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class HttpReceiver:
    """Keeps what it is sent, and answers with the next of `answers`, then with 200."""

    port: int = 0
    posts: list[Post] = field(default_factory=list)
    answers: list[web.StreamResponse] = field(default_factory=list)
    stalls: asyncio.Event | None = None
    """While it is set to an event that nobody sets, no request is answered."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks/T0K3N"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.stalls is not None:
            await self.stalls.wait()
        self.posts.append(Post(request.path, dict(request.headers), await request.read()))
        return self.answers.pop(0) if self.answers else web.Response(text="ok")


@contextlib.asynccontextmanager
async def http_receiver(port: int = 0) -> AsyncIterator[HttpReceiver]:
    receiver = HttpReceiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    receiver.port = runner.addresses[0][1]
    try:
        yield receiver
    finally:
        await runner.cleanup()


@dataclass
class MailServer:
    """Speaks enough SMTP for one letter a connection."""

    tls: ssl.SSLContext | None = None
    refuses: dict[str, str] = field(default_factory=dict)
    """Answers by verb, in place of the good ones."""
    letters: list[str] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def say(*lines: str) -> None:
            writer.writelines(f"{line}\r\n".encode() for line in lines)
            await writer.drain()

        await say("220 mail.test")
        while raw := await reader.readline():
            line = raw.decode().rstrip()
            self.heard.append(line)
            verb = line.split(" ")[0].split(":")[0].upper()
            if verb in self.refuses:
                await say(self.refuses[verb])
            elif verb == "EHLO":
                await say(*self._offers())
            elif verb == "STARTTLS" and self.tls is not None:
                await say("220 go ahead")
                await writer.start_tls(self.tls)
            elif verb == "AUTH":
                await say("235 welcome")
            elif verb == "DATA":
                await say("354 go on")
                self.letters.append((await reader.readuntil(b"\r\n.\r\n")).decode())
                await say("250 taken")
            elif verb == "QUIT":
                await say("221 bye")
                return
            else:
                await say("250 ok")

    def _offers(self) -> Iterable[str]:
        return (
            ("250-mail.test", "250-STARTTLS", "250 AUTH PLAIN") if self.tls else ("250 mail.test",)
        )

    def serving(self) -> contextlib.AbstractAsyncContextManager[int]:
        return serving(self.serve)
