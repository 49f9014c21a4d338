"""The real daemon with a token for its page: read at the start, and good for acting."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from demo.stage import Stage

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
    """Keeps the cookie, and says where its forms come from."""

    def __init__(self, port: int) -> None:
        self.host = f"127.0.0.1:{port}"
        self.cookie = ""

    def ask(self, method: str, path: str, **fields: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(self.host, timeout=10)
        headers = {"Cookie": self.cookie}
        if method == "POST":
            headers |= {"Origin": f"http://{self.host}"}
            headers |= {"Content-Type": "application/x-www-form-urlencoded"}
        try:
            connection.request(method, path, urlencode(fields) if fields else None, headers)
            answer = connection.getresponse()
            given = answer.getheader("Set-Cookie")
            if given:
                self.cookie = given.partition(";")[0]
            return answer.status, answer.read().decode()
        finally:
            connection.close()


def test_who_knows_the_token_suspends_a_real_host_and_the_event_says_where(
    stage: Stage, tmp_path: Path
) -> None:
    give(stage, tmp_path / "token", 0o600)
    stage.daemon.start()
    visitor = Visitor(stage.daemon.settings.http_port)
    assert visitor.ask("POST", "/act", op="suspend")[0] == 403
    assert visitor.ask("POST", "/login", token="another one of that length")[0] == 403  # noqa: S106 - nobody's
    assert stage.daemon.control.get("/v1/status")["suspended"] is False
    assert visitor.ask("POST", "/login", token=KNOWN)[0] == 303
    word = re.search(r'name="csrf" value="([^"]+)"', visitor.ask("GET", "/")[1])
    assert word is not None
    assert visitor.ask("POST", "/act", op="suspend", reason="a disk", csrf=word[1])[0] == 303
    assert stage.daemon.control.get("/v1/status")["suspended"] is True
    events = stage.daemon.control.get("/v1/events")["events"]
    assert [e["message"] for e in events if e["kind"] == "suspended"] == [
        "this host is suspended: a disk (by page)"
    ]
    assert KNOWN not in stage.daemon.log.read_text(encoding="utf-8")


def test_without_a_token_the_page_of_a_real_daemon_takes_nothing(stage: Stage) -> None:
    stage.daemon.start()
    visitor = Visitor(stage.daemon.settings.http_port)
    assert [visitor.ask("POST", path, op="suspend")[0] for path in ("/act", "/login")] == [405, 405]
    assert stage.daemon.control.get("/v1/status")["suspended"] is False


def test_a_token_that_everybody_can_read_ends_the_start_with_what_to_do(
    stage: Stage, tmp_path: Path
) -> None:
    give(stage, tmp_path / "token", 0o644)
    stage.daemon.spawn()
    assert stage.daemon.exit_code(30) == CONFIG_ERROR
    assert "can be read by everybody on this host" in stage.daemon.log_tail()
    assert "chmod o=" in stage.daemon.log_tail()
