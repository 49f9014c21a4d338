"""`notify` and its rows of `doctor`: a person tries sinks without waiting for trouble."""

import json
from pathlib import Path

import pytest

from reconciler.cli.doctor_checks import check_sink
from tests.unit.cli.conftest import Run
from tests.unit.notify.receivers import http_receiver
from tests.unit.notify.stories import sink


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def write(config: Path, port: int, secret: Path) -> None:
    address = config.with_name("address")
    address.write_text(f"http://127.0.0.1:{port}/T0K3N")
    config.write_text(
        f"""
[source]
url = "/srv/fleet.git"
[[notifications]]
name = "chat"
type = "slack"
url_file = "{address}"
[[notifications]]
name = "hook"
type = "webhook"
url = "http://127.0.0.1:{port}/"
secret_file = "{secret}"
"""
    )


async def test_a_sink_gets_a_message_that_says_what_it_is(
    run: Run, config: Path, tmp_path: Path
) -> None:
    async with http_receiver() as receiver:
        write(config, receiver.port, tmp_path / "none")
        shown = await run("notify", "chat", "--config", str(config))
        assert (shown.code, shown.out) == (0, "chat: delivered\n")
        assert b"nothing happened" in receiver.posts[0].body


async def test_all_sinks_are_tried_and_one_that_fails_is_named(
    run: Run, config: Path, tmp_path: Path
) -> None:
    async with http_receiver() as receiver:
        write(config, receiver.port, tmp_path / "none")
        shown = await run("notify", "--config", str(config), "-o", "json")
    told = json.loads(shown.out)["sinks"]
    assert shown.code == 1
    assert told["chat"] == ""
    assert "none: No such file" in told["hook"]
    assert "T0K3N" not in shown.out


async def test_a_name_that_no_sink_has_is_answered_with_those_that_are(
    run: Run, config: Path, tmp_path: Path
) -> None:
    write(config, 1, tmp_path / "none")
    shown = await run("notify", "pager", "--config", str(config))
    assert shown.code == 1
    assert shown.err.splitlines()[1] == "hint: [[notifications]] has: chat, hook"


def test_doctor_looks_for_the_secrets_of_each_sink(tmp_path: Path) -> None:
    hook = sink(type="webhook", url="https://example.org/", secret_file=str(tmp_path / "key"))
    missing = check_sink(hook)
    assert (missing.result, "No such file" in missing.detail) == ("failed", True)
    (tmp_path / "key").write_text("hush")
    assert check_sink(hook).result == "ok"
