"""A registry that means harm, or is ill: it answers one request otherwise than it should."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.unit.source.https import running

Answer = Callable[["HostileHandler", bytes], None]
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
BLOB = "application/octet-stream"
PIECE = b"\0" * 65536


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def a_layer(size: int = 200_000) -> tuple[bytes, bytes]:
    """A tar, and its blob, which is as large."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("content")
        member.size = size
        archive.addfile(member, io.BytesIO(b"x" * size))
    tar = file.getvalue()
    return tar, gzip.compress(tar, compresslevel=0, mtime=0)


class HostileRegistry(ThreadingHTTPServer):
    """Serves one sound image but for what `answers` has, by what is asked: ping, manifest, config or layer."""

    daemon_threads = True

    def __init__(self, answers: dict[str, Answer], declared: int | None = None) -> None:
        super().__init__(("127.0.0.1", 0), HostileHandler)
        self.answers = answers
        self.closing = threading.Event()
        tar, self.layer = a_layer()
        self.config = json.dumps(
            {
                "os": "linux",
                "architecture": "amd64",
                "rootfs": {"type": "layers", "diff_ids": [digest_of(tar)]},
            }
        ).encode()
        self.layer_digest = digest_of(self.layer)
        size = len(self.layer) if declared is None else declared
        kind = "application/vnd.oci.image"
        self.manifest = json.dumps({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": f"{kind}.config.v1+json", "digest": digest_of(self.config), "size": len(self.config)},
            "layers": [{"mediaType": f"{kind}.layer.v1.tar+gzip", "digest": self.layer_digest, "size": size}],
        }).encode()  # fmt: skip
        self.asked: list[str] = []

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    @property
    def reference(self) -> str:
        return f"{self.host}/acme/app@{digest_of(self.manifest)}"

    def handle_error(self, *_: Any) -> None:
        """A client that goes in the middle is no news."""


class HostileHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HostileRegistry  # type: ignore[mutable-override]  # as its base class documents

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's
        del format, args

    def do_GET(self) -> None:
        registry = self.server
        registry.asked.append(self.path)
        if "/manifests/" in self.path:
            what, content = "manifest", registry.manifest
        elif self.path.endswith(digest_of(registry.config)):
            what, content = "config", registry.config
        elif "/blobs/" in self.path:
            what, content = "layer", registry.layer
        else:
            what, content = "ping", b"{}"
        registry.answers.get(what, sound)(self, content)

    def say(
        self, status: int, content: bytes = b"", length: int | None = None, **headers: str
    ) -> None:
        """An answer; `length` is what it says of itself."""
        self.send_response(status)
        self.send_header("Content-Type", MANIFEST if "/manifests/" in self.path else BLOB)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)


def sound(to: HostileHandler, content: bytes) -> None:
    to.say(200, content)


def flipped(to: HostileHandler, content: bytes) -> None:
    middle = len(content) // 2
    to.say(200, content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])


def truncated(to: HostileHandler, content: bytes) -> None:
    to.say(200, content[: len(content) // 2], length=len(content))
    to.close_connection = True


def shortened(to: HostileHandler, content: bytes) -> None:
    to.say(200, content[: len(content) // 2])


def endless(to: HostileHandler, content: bytes) -> None:
    """Without a length, until the other end has enough."""
    to.send_response(200)
    to.send_header("Content-Type", MANIFEST if "/manifests/" in to.path else BLOB)
    to.end_headers()
    to.wfile.write(content)
    while not to.server.closing.is_set():
        to.wfile.write(PIECE)


def stalled(to: HostileHandler, content: bytes) -> None:
    """Half of it, and then nothing."""
    to.say(200, content[: len(content) // 2], length=len(content))
    to.server.closing.wait()


def silent(to: HostileHandler, content: bytes) -> None:
    del content
    to.server.closing.wait()


def in_a_circle(to: HostileHandler, content: bytes) -> None:
    del content
    to.say(307, Location=f"http://{to.server.host}{to.path}")


def to_a_guest(to: HostileHandler, content: bytes) -> None:
    """To where nothing listens, as a page of a cloud's host would be."""
    del content
    to.say(307, Location="http://127.0.0.1:1/latest/meta-data/")


def status(code: int, error: str = "") -> Answer:
    def answer(to: HostileHandler, content: bytes) -> None:
        del content
        body = {"errors": [{"code": error, "message": "\x1b[31mgo away"}]} if error else {}
        to.say(code, json.dumps(body).encode())

    return answer


@contextmanager
def hostile_registry(
    answers: dict[str, Answer], declared: int | None = None
) -> Iterator[HostileRegistry]:
    """`declared`: the size of the layer in the manifest, where it is a lie."""
    registry = HostileRegistry(answers, declared)
    with running(registry):
        try:
            yield registry
        finally:
            registry.closing.set()
