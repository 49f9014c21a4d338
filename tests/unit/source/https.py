"""Git over https on loopback: `git http-backend` behind a certificate of our own, and a proxy."""

from __future__ import annotations

import base64
import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SECONDS = 20


class GitHandler(BaseHTTPRequestHandler):
    """Answers as git's own CGI program does; asks for the token that its server names."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's
        del format, args

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        self._serve(self._body())

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _serve(self, body: bytes) -> None:
        server = self.server
        assert isinstance(server, GitServer)
        given = self.headers.get("Authorization", "")
        server.given.append(given)
        if server.redirect:
            self._answer(302, {"Location": server.redirect + self.path})
            return
        if server.token and given != basic(*server.token):
            self._answer(401, {"WWW-Authenticate": 'Basic realm="git"'})
            return
        path, _, query = self.path.partition("?")
        done = subprocess.run(
            ["git", "http-backend"], input=body, capture_output=True, timeout=SECONDS, check=True,
            env={**os.environ, "GIT_PROJECT_ROOT": str(server.root), "GIT_HTTP_EXPORT_ALL": "1",
                 "PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": self.command,
                 "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                 "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"},
        )  # fmt: skip
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        status = int(headers.pop("Status", "200 OK").split()[0])
        self._answer(status, headers, content)

    def _answer(self, status: int, headers: dict[str, str], content: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class GitServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, root: Path, token: tuple[str, str] | None, redirect: str = "") -> None:
        super().__init__(("127.0.0.1", 0), GitHandler)
        self.root = root
        self.token = token
        self.redirect = redirect
        self.given: list[str] = []
        """What each request showed."""

    @property
    def url(self) -> str:
        return f"https://localhost:{self.server_port}/"

    @property
    def far_url(self) -> str:
        """By a name that only a proxy of ours leads to."""
        return f"https://git.fleet.example:{self.server_port}/"


class ProxyHandler(BaseHTTPRequestHandler):
    """CONNECT, to wherever it is asked."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        del format, args

    def do_CONNECT(self) -> None:
        proxy = self.server
        assert isinstance(proxy, Proxy)
        proxy.asked.append(self.path)
        if proxy.token and self.headers.get("Proxy-Authorization") != proxy.token:
            self.send_response(407)
            self.send_header("Proxy-Authenticate", 'Basic realm="proxy"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        _, _, port = self.path.rpartition(":")
        with socket.create_connection(("127.0.0.1", int(port)), SECONDS) as far:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=pour, args=(far, self.connection), daemon=True)
            back.start()
            pour(self.connection, far)
            back.join(SECONDS)


class Proxy(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, token: str = "") -> None:
        super().__init__(("127.0.0.1", 0), ProxyHandler)
        self.token = token
        self.asked: list[str] = []


def pour(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return  # the other end went first


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def make_certificate(folder: Path) -> Path:
    """Key and certificate of localhost, in one file that is its own authority."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    arguments = [
        shutil.which("openssl") or "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
        "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost",
        "-addext", "subjectAltName=DNS:localhost,DNS:git.fleet.example", "-keyout", str(key), "-out", str(certificate),
    ]  # fmt: skip
    subprocess.run(arguments, check=True, capture_output=True, timeout=SECONDS)
    return certificate


@contextmanager
def running(server: ThreadingHTTPServer, certificate: Path | None = None) -> Iterator[None]:
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_name("key.pem"))
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join(SECONDS)
        server.server_close()
