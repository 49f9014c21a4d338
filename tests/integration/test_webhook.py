"""A push to a git server elsewhere, told by its webhook to the daemon as a process."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from demo.daemon import Daemon, Settings, free_port
from demo.repository import Repository
from tests.wait import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

SECRET = b"0123456789abcdef"


@pytest.fixture
def folder() -> Iterator[Path]:
    """With a short path, as unix sockets need it."""
    with tempfile.TemporaryDirectory(prefix="hook-") as made:
        yield Path(made)


@pytest.fixture
def repository(folder: Path) -> Repository:
    repository = Repository.create(folder)
    repository.write("README", "one\n")
    repository.push("one")
    return repository


@pytest.fixture
def git_server(repository: Repository) -> Iterator[str]:
    port = free_port()
    server = subprocess.Popen(
        ["git", "daemon", f"--port={port}", "--listen=127.0.0.1", "--export-all",
         f"--base-path={repository.bare.parent}"],
        start_new_session=True,
    )  # fmt: skip
    yield f"git://127.0.0.1:{port}/{repository.bare.name}"
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()


@pytest.fixture
def daemon(git_server: str, folder: Path) -> Iterator[Daemon]:
    """One that would look at its source by itself only once in a day."""
    secret = folder / "secret"
    secret.write_bytes(SECRET)
    settings = Settings(folder / "fleet.git", folder / "s", folder / "socket", free_port())
    daemon = Daemon(folder, settings)
    daemon.config.write_text(
        f'state_dir = "{settings.state}"\ncontrol_socket = "{settings.socket}"\n'
        f'[source]\nurl = "{git_server}"\nallow_plaintext = true\npoll_interval = 86400.0\n'
        f"[http]\nport = {settings.http_port}\n"
        f'[webhook]\nsecret_file = "{secret}"\n',
        encoding="utf-8",
    )
    daemon.start()
    yield daemon
    daemon.stop()


def post(daemon: Daemon, secret: bytes) -> int:
    body = b'{"ref": "refs/heads/main"}'
    signature = hmac.new(secret, body, hashlib.sha256).hexdigest()
    headers = {"X-Gitea-Event": "push", "X-Gitea-Signature": signature}
    address = ("127.0.0.1", daemon.settings.http_port)
    with closing(http.client.HTTPConnection(*address, timeout=10)) as connection:
        connection.request("POST", "/webhook", body, headers)
        return connection.getresponse().status


def test_a_push_elsewhere_is_followed_when_its_webhook_comes(
    repository: Repository, daemon: Daemon
) -> None:
    first = repository.head()
    assert daemon.cli("reconcile").returncode == 0  # also where git's server came up too late
    wait_until(lambda: daemon.fleet().observed == first, 30, "the first commit is followed")
    repository.write("README", "two\n")
    second = repository.push("two")
    assert post(daemon, b"not the secret of it") == 401
    assert daemon.fleet().observed == first
    assert post(daemon, SECRET) == 202
    wait_until(lambda: daemon.fleet().observed == second, 30, "the push is followed")
