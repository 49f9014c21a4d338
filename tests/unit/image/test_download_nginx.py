"""Downloads from nginx as Debian has it: resumed, over TLS, redirected, and of files that change meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
import random
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from reconciler.clock import SystemClock
from reconciler.errors import BuildUnavailable
from reconciler.image.downloads import Downloads, Wanted
from tests.eventually import eventually
from tests.unit.source.https import make_certificate
from tests.wait import wait_until

UNPACKED = Path(__file__).resolve().parents[3] / ".cache/nginx/usr/sbin/nginx"
NGINX = shutil.which("nginx") or (str(UNPACKED) if UNPACKED.exists() else "")
CONTENT = random.Random(2).randbytes(3_000_000)  # noqa: S311  # the same in each run
SECONDS = 20.0

pytestmark = pytest.mark.skipif(not NGINX, reason="no nginx: ./dev test unpacks Debian's")

CONFIG = """
daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/errors;
events {{ worker_connections 64; }}
http {{
    access_log {folder}/access;
    log_format statuses '$uri $status $body_bytes_sent';
    access_log {folder}/statuses statuses;
    client_body_temp_path {folder}/t; proxy_temp_path {folder}/t; fastcgi_temp_path {folder}/t;
    uwsgi_temp_path {folder}/t; scgi_temp_path {folder}/t;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {folder}/certificate.pem; ssl_certificate_key {folder}/key.pem;
        root {folder}/files;
        location /slow/ {{ alias {folder}/files/; limit_rate 400k; }}
        location /moved/ {{ rewrite ^/moved/(.*)$ /$1 redirect; }}
        location /loop/ {{ rewrite ^ /loop/ redirect; }}
        location /away/ {{ return 302 https://localhost:1/image; }}
    }}
}}
"""


@dataclass
class Nginx:
    folder: Path
    port: int

    @property
    def file(self) -> Path:
        return self.folder / "files/image"

    @property
    def partial(self) -> Path:
        return self.folder / "downloads/one.partial"

    def statuses(self) -> list[str]:
        return (self.folder / "statuses").read_text().splitlines()

    async def fetch(self, path: str = "/image", content: bytes = CONTENT) -> bytes:
        url = f"https://localhost:{self.port}"
        downloads = Downloads(self.folder / "downloads", SystemClock(), [f"{url}/*"])
        digest = hashlib.sha256(content).hexdigest()
        target = self.folder / "target"
        await downloads.fetch(Wanted("one", url + path, digest, 0, 1 << 30), target)
        return target.read_bytes()

    async def cancelled(self) -> int:
        """A download that is cancelled in the middle; what came of it."""
        work = asyncio.create_task(self.fetch("/slow/image"))
        await eventually(lambda: self.partial.exists() and self.partial.stat().st_size > 100_000)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        return self.partial.stat().st_size


@pytest.fixture
def nginx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nginx]:
    monkeypatch.setenv("SSL_CERT_FILE", str(make_certificate(tmp_path)))
    (tmp_path / "files").mkdir()
    (tmp_path / "files/image").write_bytes(CONTENT)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    (tmp_path / "conf").write_text(CONFIG.format(folder=tmp_path, port=port))
    argv = (NGINX, "-p", tmp_path, "-c", tmp_path / "conf", "-e", tmp_path / "errors")
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: listens(port) or process.poll(), SECONDS, "nginx listens")
            assert process.poll() is None, (tmp_path / "errors").read_text()
            yield Nginx(tmp_path, port)
        finally:
            process.terminate()


def listens(port: int) -> bool:
    with socket.socket() as found:
        return found.connect_ex(("127.0.0.1", port)) == 0


async def test_a_cancelled_download_goes_on_with_the_rest(nginx: Nginx) -> None:
    came = await nginx.cancelled()
    assert 0 < came < len(CONTENT)
    assert await nginx.fetch() == CONTENT
    assert nginx.statuses()[-1] == f"/image 206 {len(CONTENT) - came}"


async def test_a_file_that_changed_while_it_was_half_here_is_downloaded_whole(nginx: Nginx) -> None:
    came = await nginx.cancelled()
    changed = CONTENT[::-1]
    nginx.file.write_bytes(changed)
    assert await nginx.fetch(content=changed) == changed
    assert nginx.statuses()[-2:] == [
        f"/image 206 {len(CONTENT) - came}", f"/image 200 {len(changed)}",
    ]  # fmt: skip


async def test_a_file_that_is_shorter_now_than_what_came_is_downloaded_whole(nginx: Nginx) -> None:
    await nginx.cancelled()
    short = CONTENT[:50_000]
    nginx.file.write_bytes(short)
    assert await nginx.fetch(content=short) == short
    assert nginx.statuses()[-2].startswith("/image 416 ")
    assert nginx.statuses()[-1] == f"/image 200 {len(short)}"


async def test_redirects_lead_to_the_file_or_to_an_error(nginx: Nginx) -> None:
    assert await nginx.fetch("/moved/image") == CONTENT
    for path, words in (
        ("/loop/x", "redirected more than 5 times"),
        ("/away/x", "which policy.image_urls does not allow"),
        ("/none", "status 404"),
    ):
        with pytest.raises(BuildUnavailable, match=words):
            await nginx.fetch(path)


async def test_a_server_that_ends_in_the_middle_is_asked_again_for_the_rest(nginx: Nginx) -> None:
    work = asyncio.create_task(nginx.fetch("/slow/image"))
    await eventually(lambda: nginx.partial.exists() and nginx.partial.stat().st_size > 100_000)
    argv = (NGINX, "-p", nginx.folder, "-c", nginx.folder / "conf", "-e", nginx.folder / "errors", "-s", "stop")  # fmt: skip
    await asyncio.to_thread(subprocess.run, argv, check=True, timeout=SECONDS, capture_output=True)
    with pytest.raises(BuildUnavailable, match="ended in the middle of it") as failed:
        await work
    assert failed.value.kind == "network"
    assert 100_000 < nginx.partial.stat().st_size < len(CONTENT)
