"""The ways to a server of images: TLS with an authority of one's own, and proxies, as for the git source."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from reconciler.clock import SystemClock
from reconciler.errors import BuildUnavailable
from reconciler.image.downloads import Downloads, Wanted
from tests.unit.source.https import Proxy, basic, make_certificate, running

CONTENT = b"an image" * 5000
FAR = "https://git.fleet.example"


class Images(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's
        del format, args

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT)


class ImageServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Images)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return make_certificate(tmp_path)


@pytest.fixture
def server(certificate: Path) -> Iterator[ImageServer]:
    server = ImageServer()
    with running(server, certificate):
        yield server


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))


async def fetched(url: str, folder: Path) -> bytes:
    downloads = Downloads(folder / "downloads", SystemClock(), [url])
    digest = hashlib.sha256(CONTENT).hexdigest()
    await downloads.fetch(Wanted("one", url, digest, 0, 1 << 20), folder / "image")
    return (folder / "image").read_bytes()


@pytest.mark.usefixtures("trusted")
async def test_an_authority_of_ones_own_is_trusted(server: ImageServer, tmp_path: Path) -> None:
    url = f"https://localhost:{server.server_port}/image"
    assert await fetched(url, tmp_path) == CONTENT


async def test_an_unknown_authority_is_an_error(server: ImageServer, tmp_path: Path) -> None:
    with pytest.raises(BuildUnavailable, match="certificate verify failed") as failed:
        await fetched(f"https://localhost:{server.server_port}/image", tmp_path)
    assert failed.value.kind == "network"
    assert not (tmp_path / "image").exists()


@pytest.mark.usefixtures("trusted")
async def test_a_certificate_of_another_name_is_an_error(
    server: ImageServer, tmp_path: Path
) -> None:
    with pytest.raises(BuildUnavailable, match="certificate"):
        await fetched(f"https://127.0.0.1:{server.server_port}/image", tmp_path)


@pytest.mark.usefixtures("trusted")
async def test_a_proxy_of_the_environment_is_used_with_its_password(
    server: ImageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy(basic("user", "secret"))
    with running(proxy):
        monkeypatch.setenv("https_proxy", f"http://user:secret@127.0.0.1:{proxy.server_port}")
        assert await fetched(f"{FAR}:{server.server_port}/image", tmp_path) == CONTENT
    assert proxy.asked == [f"git.fleet.example:{server.server_port}"]


@pytest.mark.usefixtures("trusted")
async def test_a_proxy_that_refuses_is_named_without_its_password(
    server: ImageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy(basic("user", "other"))
    with running(proxy):
        monkeypatch.setenv("https_proxy", f"http://user:secret@127.0.0.1:{proxy.server_port}")
        with pytest.raises(BuildUnavailable, match="by way of the proxy") as failed:
            await fetched(f"{FAR}:{server.server_port}/image", tmp_path)
    assert "secret" not in str(failed.value)


async def test_a_proxy_of_a_kind_that_is_not_supported_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "socks5://127.0.0.1:1")
    with pytest.raises(BuildUnavailable, match="socks5:// proxies are not supported") as failed:
        await fetched(f"{FAR}/image", tmp_path)
    assert "no_proxy" in failed.value.hint
