"""A token server for Debian's registry, as public registries have one: credentials in, a signed token out."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from reconciler.clock import SystemClock
from tests.registry.images import program
from tests.unit.source.https import basic, running

ISSUER, SERVICE = "fleet-issuer", "fleet-registry"
SECONDS = 20


def _coded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


class TokenServer(ThreadingHTTPServer):
    """Tokens for who shows these credentials; a token is good for `lifetime` seconds from now."""

    daemon_threads = True

    def __init__(self, folder: Path, user: str, password: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.accepted = basic(user, password)
        self.lifetime = 600
        self.asked: list[str] = []
        self.certificate = folder / "token.pem"
        self._key = folder / "token.key"
        self._openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tokens",
            "-keyout", str(self._key), "-out", str(self.certificate),
        )  # fmt: skip

    @property
    def realm(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/token"

    def token(self, scope: str) -> str:
        now = int(SystemClock().now().wall)
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        access = [{"type": kind, "name": name, "actions": actions.split(",")}] if scope else []
        der = self._openssl("x509", "-in", str(self.certificate), "-outform", "DER")
        head = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]}
        claims = {
            "iss": ISSUER, "aud": SERVICE, "sub": "puller", "jti": str(len(self.asked)), "access": access,
            "iat": now, "nbf": now - 3600, "exp": now + self.lifetime,
        }  # fmt: skip
        signed = ".".join(_coded(json.dumps(part).encode()) for part in (head, claims))
        signature = self._openssl("dgst", "-sha256", "-sign", str(self._key), given=signed.encode())
        return f"{signed}.{_coded(signature)}"

    def _openssl(self, *arguments: str, given: bytes = b"") -> bytes:
        return subprocess.run(
            [program("openssl"), *arguments], input=given, check=True, capture_output=True, timeout=SECONDS
        ).stdout  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's
        del format, args

    def do_GET(self) -> None:
        tokens = self.server
        assert isinstance(tokens, TokenServer)
        scope = parse_qs(urlsplit(self.path).query).get("scope", [""])[0]
        tokens.asked.append(scope)
        welcome = self.headers.get("Authorization") == tokens.accepted
        body = json.dumps({"token": tokens.token(scope)} if welcome else {"details": "no"}).encode()
        self.send_response(200 if welcome else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving_tokens(folder: Path, user: str, password: str) -> Iterator[TokenServer]:
    server = TokenServer(folder, user, password)
    with running(server):
        yield server
