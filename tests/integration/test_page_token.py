"""The real daemon with a token for its page: read at the start, and good for acting."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from demo.stage import Stage
from tests.wait import wait_until

pytestmark = pytest.mark.integration

KNOWN = "a token of some length"
CONFIG_ERROR = 78


@pytest.fixture
def stage() -> Iterator[Stage]:
    opened = Stage.open()
    yield opened
    assert opened.close() == []


def give(stage: Stage, path: Path, mode: int) -> None:
    path.write_text(f"{KNOWN}\n", encoding="utf-8")
    path.chmod(mode)
    config = stage.daemon.config.read_text(encoding="utf-8")
    named = config.replace("[http]\n", f'[http]\ntoken_file = "{path}"\n')
    stage.daemon.config.write_text(named, encoding="utf-8")


class Visitor:
    """Keeps the session as the page's script does, and says where its forms come from."""

    def __init__(self, port: int) -> None:
        self.host = f"127.0.0.1:{port}"
        self.session = ""

    def ask(self, method: str, path: str, **fields: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(self.host, timeout=10)
        headers = {"Authorization": f"Bearer {self.session}"} if self.session else {}
        if method == "POST":
            headers |= {"Origin": f"http://{self.host}"}
            headers |= {"Content-Type": "application/x-www-form-urlencoded"}
        try:
            connection.request(method, path, urlencode(fields) if fields else None, headers)
            answer = connection.getresponse()
            assert answer.getheader("Set-Cookie") is None
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def reaches_it(self) -> bool:
        host, _, port = self.host.partition(":")
        with socket.socket() as asked:
            return asked.connect_ex((host, int(port))) == 0

    def sign_in(self, token: str) -> int:
        status, text = self.ask("POST", "/login", token=token)
        if status == 200:
            self.session = json.loads(text)["session"]
        return status


def test_who_knows_the_token_suspends_a_real_host_and_the_event_says_where(
    stage: Stage, tmp_path: Path
) -> None:
    give(stage, tmp_path / "token", 0o600)
    stage.daemon.start()
    visitor = Visitor(stage.daemon.settings.http_port)
    wait_until(visitor.reaches_it, 30)
    assert visitor.ask("POST", "/act", op="suspend")[0] == 401
    assert visitor.sign_in("another one of that length") == 403
    assert stage.daemon.control.get("/v1/status")["suspended"] is False
    assert visitor.sign_in(KNOWN) == 200
    assert visitor.ask("POST", "/act", op="suspend", reason="a disk")[0] == 200
    assert stage.daemon.control.get("/v1/status")["suspended"] is True
    events = stage.daemon.control.get("/v1/events")["events"]
    assert [e["message"] for e in events if e["kind"] == "suspended"] == [
        "this host is suspended: a disk (by page)"
    ]
    assert KNOWN not in stage.daemon.log.read_text(encoding="utf-8")
    stage.daemon.stop()
    stage.daemon.start()
    wait_until(visitor.reaches_it, 30, "the TCP port, which opens after the control socket")
    assert visitor.ask("POST", "/act", op="resume")[0] == 200, "sessions outlive the daemon"


@pytest.mark.shows(fault=31)
@pytest.mark.shows(fault=33)
def test_what_the_commands_show_needs_a_token_on_the_page(stage: Stage) -> None:
    stage.daemon.start()
    visitor = Visitor(stage.daemon.settings.http_port)
    wait_until(visitor.reaches_it, 30)
    for path in ("/", "/vm/web", "/api/status", "/metrics", "/commits", "/events"):
        assert visitor.ask("GET", path)[0] == 401
    assert visitor.ask("GET", "/healthz")[0] in (200, 503), "it is open, whatever it says"
    told = stage.daemon.cli("token")
    assert visitor.sign_in(told.stdout.strip()) == 200
    assert visitor.ask("GET", "/api/status")[0] == 200
    visitor.session = stage.daemon.cli("token", "--metrics").stdout.strip()
    assert [visitor.ask("GET", path)[0] for path in ("/metrics", "/")] == [200, 403]
    assert visitor.session not in stage.daemon.log.read_text(encoding="utf-8")


def test_without_a_token_of_the_operator_the_page_of_a_real_daemon_takes_nothing(
    stage: Stage,
) -> None:
    stage.daemon.start()
    visitor = Visitor(stage.daemon.settings.http_port)
    wait_until(visitor.reaches_it, 30)
    assert visitor.sign_in(stage.daemon.cli("token").stdout.strip()) == 200
    assert visitor.ask("POST", "/act", op="suspend")[0] == 405
    assert stage.daemon.control.get("/v1/status")["suspended"] is False


def test_a_token_that_everybody_can_read_ends_the_start_with_what_to_do(
    stage: Stage, tmp_path: Path
) -> None:
    give(stage, tmp_path / "token", 0o644)
    stage.daemon.spawn()
    assert stage.daemon.exit_code(30) == CONFIG_ERROR
    assert "can be read by everyone on this host" in stage.daemon.log_tail()
    assert "chmod o=" in stage.daemon.log_tail()
