"""A web server that answers exactly as a test says, however wrong that is."""

from __future__ import annotations

import re
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

SECONDS = 20
HEAD = re.compile(rb"GET (\S+) HTTP/1\.1\r\n", re.IGNORECASE)


@dataclass(frozen=True)
class Asked:
    path: str
    begin: int
    """Of the range that was asked for; 0: all of it."""


Answer = Callable[[Asked], Iterator[bytes]]


@dataclass
class Stranger:
    address: str
    asked: list[Asked] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    """An answer that hangs waits for it."""

    def url(self, path: str = "/image") -> str:
        return f"http://{self.address}{path}"

    @property
    def pattern(self) -> str:
        return f"http://{self.address}/*"


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


@contextmanager
def serving(answer: Callable[[Stranger], Answer]) -> Iterator[Stranger]:
    """Each connection is one request, and ends after its answer."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.connection.settimeout(SECONDS)
            head = b""
            while (line := self.rfile.readline(8192)) not in (b"\r\n", b""):
                head += line
            found = HEAD.match(head)
            if found is None:
                return
            ranged = re.search(rb"(?i)\r\nrange: bytes=(\d+)-\r\n", head + b"\r\n")
            asked = Asked(found[1].decode(), int(ranged[1]) if ranged else 0)
            stranger.asked.append(asked)
            try:
                for piece in answers(asked):
                    self.wfile.write(piece)
            except OSError:
                return  # the other end has seen enough

    server = _Server(("127.0.0.1", 0), Handler)
    stranger = Stranger(f"127.0.0.1:{server.server_address[1]}")
    answers = answer(stranger)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield stranger
    finally:
        stranger.ended.set()
        server.shutdown()
        thread.join(SECONDS)
        server.server_close()


def head(status: str, **headers: object) -> bytes:
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join((f"HTTP/1.1 {status}", *lines, "Connection: close", "", "")).encode()


def whole(content: bytes) -> Answer:
    """As a good server does, ranges included."""

    def answer(asked: Asked) -> Iterator[bytes]:
        if asked.begin >= len(content) > 0:
            yield head("416 No", Content_Range=f"bytes */{len(content)}", Content_Length=0)
        elif asked.begin:
            rest = content[asked.begin :]
            span = f"bytes {asked.begin}-{len(content) - 1}/{len(content)}"
            yield head("206 Part", Content_Range=span, Content_Length=len(rest)) + rest
        else:
            yield head("200 OK", Content_Length=len(content)) + content

    return answer
