"""A daemon that is killed between an event and its delivery: the next one delivers it, under one id."""

import json
import urllib.request
from collections.abc import Iterator

import pytest

from demo.client import DaemonAway
from demo.daemon import free_port
from demo.stage import Stage
from tests.integration.monitoring import Receiver
from tests.wait import wait_until

BAD = "apiVersion: reconciler/v1\nkind: MicroVM\nmetadata: {name: web}\nspec: {memory: much}\n"
SLOW = 40.0

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage.open()
    yield stage
    assert stage.close() == []


def add_sink(stage: Stage, port: int) -> None:
    (stage.root / "secret").write_text("hush")
    entry = {
        "name": "ops", "type": "webhook", "url": f"http://127.0.0.1:{port}/T0K3N",
        "secret_file": str(stage.root / "secret"),
    }  # fmt: skip
    lines = ["", "[[notifications]]", *(f"{key} = {json.dumps(v)}" for key, v in entry.items())]
    with stage.daemon.config.open("a", encoding="utf-8") as config:
        config.write("\n".join(lines) + "\n")


def refusals(stage: Stage) -> int:
    try:
        answer = stage.daemon.control.get("/v1/events?limit=1000")
    except DaemonAway:
        return 0
    return sum(one["kind"] == "revision-rejected" for one in answer["events"])


def metric(stage: Stage, series: str) -> float:
    url = f"http://127.0.0.1:{stage.daemon.settings.http_port}/metrics"
    with urllib.request.urlopen(url, timeout=SLOW) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{series} "))


def test_what_happened_before_kill_9_is_delivered_after_it(stage: Stage) -> None:
    port = free_port()
    add_sink(stage, port)
    stage.repository.write("web.yaml", BAD)
    stage.repository.push("bad")
    stage.daemon.spawn()
    wait_until(lambda: refusals(stage), SLOW, "the revision is refused")
    failed = 'reconciler_notifications_total{result="failed",sink="ops"}'
    wait_until(lambda: metric(stage, failed), SLOW, "nobody took the message")
    assert metric(stage, 'reconciler_notifications_pending{sink="ops"}') == 1
    assert metric(stage, 'reconciler_notifications_oldest_timestamp_seconds{sink="ops"}') > 0
    stage.daemon.kill()

    with Receiver(port) as receiver:
        stage.daemon.spawn()
        wait_until(lambda: receiver.posts, SLOW, "the next daemon delivers it")
        (first,) = receiver.posts
        assert (first["status"], first["condition"]) == ("firing", "revision")
        assert receiver.ids == [first["id"]]

        # What was taken is not told again; a second refusal is the same trouble, within its window.
        stage.daemon.kill()
        stage.daemon.spawn()
        stage.repository.push("still bad")
        wait_until(lambda: refusals(stage) == 2, SLOW, "the second revision is refused too")
        assert metric(stage, 'reconciler_notifications_pending{sink="ops"}') == 0
        stage.daemon.stop()
        assert {message["id"] for message in receiver.posts} == {first["id"]}
    log = stage.daemon.log.read_text(encoding="utf-8")
    assert "hush" not in log
    assert "T0K3N" not in log
