"""Sinks that are away, slow or dead, and a daemon that dies before they took what they are told."""

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.client import DaemonAway
from demo.daemon import free_port
from demo.stage import Stage
from reconciler.clock import SystemClock
from reconciler.config import AlertmanagerConfig
from reconciler.errors import DeliveryError
from reconciler.ledger.sqlite import open_ledger
from reconciler.notify import delivery as courier
from reconciler.notify.delivery import LONGEST_PAUSE
from reconciler.notify.notifier import Notifier
from tests.eventually import eventually
from tests.fakes.sink import FakeCounts, FakeSink
from tests.integration.monitoring import Receiver
from tests.unit.notify.stories import sinks
from tests.wait import wait_until
from tests.world import World, state, vm

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
    token = stage.daemon.control.get("/v1/token")["metrics"]
    asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(asked, timeout=SLOW) as answer:  # noqa: S310  its own
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{series} "))


@pytest.mark.shows(row=59)
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


@pytest.mark.shows(row=59)
async def test_row_59_a_sink_that_hangs_or_is_away_delays_no_rollout_and_hears_of_it_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = open_ledger(tmp_path / "ledger.db", SystemClock()).ledger
    world, of_sinks = World(durable=ledger), {"slow": FakeSink(hangs=True), "away": FakeSink()}
    of_sinks["away"].error = DeliveryError("no route")
    monkeypatch.setattr(courier, "DEADLINE", 0.01)
    told = Notifier(
        sinks(*({"name": name, "type": "alertmanager", "url": "http://x/"} for name in of_sinks)),
        ledger, world.clock, FakeCounts(),
        {AlertmanagerConfig: lambda config, _: of_sinks[config.name]},
    )  # fmt: skip
    await told.open()
    running = asyncio.create_task(told.run())
    await world.push(state(vm("web")))
    await world.settle()
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    await world.push(state(vm("web", "v2")))
    await world.settle()
    assert world.hypervisor.running() == {"web": 1}
    assert [sink.taken for sink in of_sinks.values()] == [[], []]

    of_sinks["slow"].hangs, of_sinks["away"].error = False, None

    def all_heard() -> bool:
        world.clock.advance(LONGEST_PAUSE)
        return all(len(sink.taken) == 2 for sink in of_sinks.values())

    await eventually(all_heard)
    for sink in of_sinks.values():
        assert [(one.status, one.condition) for one in sink.taken] == [
            ("firing", "update"),
            ("resolved", "update"),
        ]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await ledger.close()
