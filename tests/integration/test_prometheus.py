"""An update and a rollback, told alike by everything that tells: metrics, alert, messages, traces, page, CLI.

Prometheus, Alertmanager, QEMU and its guests are real; the receivers at the far ends are the test's.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from demo.client import Fleet
from demo.fleet import NAMES, WEB
from tests.integration.harness import Harness
from tests.integration.monitoring import Prometheus, Receiver, alertmanager, prometheus
from tests.unit.dashboards.queries import asked, filled_in
from tests.unit.tracing.collector import Collector, collecting
from tests.wait import wait_until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        any(shutil.which(name) is None for name in ("prometheus", "prometheus-alertmanager")),
        reason="no prometheus or prometheus-alertmanager: ./dev test brings them",
    ),
]

POWER_OFF = "#!/bin/sh\nusleep 200000\npoweroff -f\n"
DASHBOARDS = Path(__file__).resolve().parents[2] / "dashboards/grafana"
GROUP = "frontend"
SOON = 30.0
ROLLBACKS = 'sum(reconciler_rollbacks_total{result="succeeded"})'
OF_AN_UPDATE = {
    *("commit", "fetch", "verify", "load", "plan", "build", "stop", "start", "probe", "soak"),
}


@dataclass
class Watch:
    """Everybody who is told of this fleet."""

    prometheus: Prometheus
    alerts: Receiver
    """What Alertmanager passes on."""
    messages: Receiver
    """What the daemon itself posts."""
    traces: Collector


@pytest.fixture
def watched(fleet: Harness, tmp_path: Path) -> Iterator[Watch]:
    """The daemon is started anew, with sinks and a collector in its config; and as it was at the end."""
    daemon = fleet.daemon
    plain = daemon.config.read_text(encoding="utf-8")
    secret = tmp_path / "secret"
    secret.write_text("hush", encoding="utf-8")
    with ExitStack() as stack:
        alerts, messages = stack.enter_context(Receiver()), stack.enter_context(Receiver())
        traces = stack.enter_context(collecting())
        manager = stack.enter_context(alertmanager(tmp_path, alerts.url))
        told = [
            {"name": "hook", "type": "webhook", "url": messages.url, "secret_file": str(secret)},
            {"name": "manager", "type": "alertmanager", "url": f"http://127.0.0.1:{manager}"},
        ]
        stack.callback(configure, fleet, plain)
        configure(fleet, plain + tables(told, traces.url))
        token = daemon.control.get("/v1/token")["metrics"]
        server = stack.enter_context(
            prometheus(tmp_path, daemon.settings.http_port, manager, token)
        )
        wait_until(lambda: server.value("reconciler_build_info"), SOON, "the first scrape")
        yield Watch(server, alerts, messages, traces)


def tables(sinks: list[dict[str, str]], traces: str) -> str:
    lines = ["", "[tracing]", f"endpoint = {json.dumps(traces)}"]
    for sink in sinks:
        lines += ["[[notifications]]", *(f"{key} = {json.dumps(v)}" for key, v in sink.items())]
    return "\n".join(lines) + "\n"


def configure(fleet: Harness, text: str) -> None:
    fleet.daemon.stop()
    fleet.daemon.config.write_text(text, encoding="utf-8")
    fleet.daemon.start()
    fleet.until("healthy", lambda now: all(vm.healthy for vm in now.vms.values()))


def update_and_roll_back(fleet: Harness) -> tuple[str, str]:
    """A push that works, then one that does not; both commits."""
    fleet.pages("watched", WEB[0])
    good = fleet.push("an update")
    fleet.until("updated", lambda now: now.applied == good and now.settled(good, *NAMES))
    fleet.repository.write(f"{WEB[0]}/etc/rc.local", POWER_OFF, mode=0o755)
    bad = fleet.push("it powers off")
    fleet.until("went back", lambda now: now.observed == bad and now.rolled_back() == [WEB[0]])
    return good, bad


def events(fleet: Harness, kind: str) -> list[dict[str, Any]]:
    answer: dict[str, Any] = fleet.daemon.control.get("/v1/events?limit=10000")
    return [event for event in answer["events"] if event["kind"] == kind]


def exposed(fleet: Harness, name: str, **labels: str) -> float:
    """The sum of these series in /metrics now."""
    _, text = fleet.http("/metrics")
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def test_the_whole_story_is_told_alike_everywhere(fleet: Harness, watched: Watch) -> None:
    begun = time.time() - 1  # noqa: TID251 - Prometheus asks
    before, generation = len(events(fleet, "rolled-back")), fleet.fleet().vms[WEB[0]].running
    assert generation is not None
    good, bad = update_and_roll_back(fleet)
    now = fleet.fleet()
    web = now.vms[WEB[0]]
    assert (web.running, web.last_good) == (generation + 1, generation + 1)

    assert len(events(fleet, "rolled-back")) == before + 1
    alert_tells(watched)
    messages_tell(watched, generation + 1, bad)
    metrics_tell(watched.prometheus, fleet, now)
    traces_tell(watched, good, bad)
    page_and_commands_tell(fleet, generation + 1, bad)
    every_query_has_an_answer(watched.prometheus, begun)


def alert_tells(watched: Watch) -> None:
    alert = wait_until(
        lambda: watched.alerts.alerts("ReconcilerRollbackHappened"), SOON, "the alert was delivered"
    )[0]
    assert alert["status"] == "firing"
    labels = {name: alert["labels"].get(name) for name in ("severity", "reason", "group")}
    assert labels == {"severity": "warning", "reason": "exited", "group": GROUP}
    assert WEB[0] in alert["annotations"]["description"]
    others = watched.prometheus.firing() - {"ReconcilerStateRecovered"}  # an earlier test's ledger
    assert others == {"ReconcilerRollbackHappened"}


def messages_tell(watched: Watch, good: int, bad: str) -> None:
    """The daemon's own words, posted by itself and through Alertmanager."""
    posts = wait_until(
        lambda: (
            [one for one in watched.messages.posts if one["condition"] == "update"][1:]
            and list(watched.messages.posts)
        ),
        SOON,
        "the failure and its end were posted",
    )
    failed, over = (one for one in posts if one["condition"] == "update")
    assert (failed["status"], failed["vm"], failed["group"]) == ("firing", WEB[0], GROUP)
    assert (failed["generation"], failed["revision"]) == (good + 1, bad)
    assert (over["status"], over["generation"], over["ends"]) == ("resolved", good, [failed["id"]])
    assert over["summary"].startswith(f"{WEB[0]} serves generation {good} again after ")
    assert len(set(watched.messages.ids)) == len(watched.messages.ids), "each was told once"
    statuses = wait_until(
        lambda: [one["status"] for one in watched.alerts.alerts("ReconcilerUpdate")],
        SOON,
        "Alertmanager passed it on",
    )
    assert set(statuses) <= {"firing", "resolved"}


def metrics_tell(server: Prometheus, fleet: Harness, now: Fleet) -> None:
    wait_until(lambda: server.value(ROLLBACKS) == 1, SOON, "the rollback was scraped")
    assert exposed(fleet, "reconciler_rollbacks_total", group=GROUP, result="succeeded") == 1
    assert exposed(fleet, "reconciler_rollbacks_total") == 1
    gaps = exposed(fleet, "reconciler_vm_downtime_seconds_count")
    assert gaps == exposed(fleet, "reconciler_vm_downtime_seconds_count", cause="planned") >= 2
    scraped = "sum(reconciler_vm_downtime_seconds_count)"
    wait_until(lambda: server.value(scraped) == gaps, SOON, "the gaps were scraped")
    commit = now.observed
    assert server.value(f'reconciler_source_revision_info{{commit="{commit}"}}') == 1
    assert exposed(fleet, "reconciler_source_revision_info", commit=commit or "") == 1
    for name, vm in now.vms.items():
        for series, value in (
            ("vm_running_generation", vm.running),
            ("vm_desired_generation", vm.desired),
            ("vm_last_good_generation", vm.last_good),
            ("vm_healthy", vm.healthy),
        ):
            assert server.value(f'reconciler_{series}{{vm="{name}"}}') == value, (name, series)
            assert exposed(fleet, f"reconciler_{series}", vm=name) == value, (name, series)
    wait_until(
        lambda: exposed(fleet, "reconciler_vm_disk_operations_total", vm="db", op="read") > 0,
        SOON,
        "QEMU was asked for what its guest reads",
    )
    given = exposed(fleet, "reconciler_vm_memory_bytes", vm="db")
    assert given > 0
    wait_until(
        lambda: 0 < exposed(fleet, "reconciler_vm_memory_available_bytes", vm="db") < given,
        2 * SOON,
        "the guest's balloon told of its memory",
    )
    delivered = 'sum(reconciler_notifications_total{result="delivered",sink="hook"})'
    wait_until(lambda: (server.value(delivered) or 0) >= 2, SOON, "deliveries were scraped")


def traces_tell(watched: Watch, good: str, bad: str) -> None:
    traces = watched.traces
    wait_until(
        lambda: "commit" in traces.names(good) and "commit" in traces.names(bad),
        SOON,
        "both commits are told as traces",
    )
    assert traces.names(good) >= OF_AN_UPDATE
    ends = {s.trace: s.attributes["outcome"] for s in list(traces.spans) if s.name == "commit"}
    assert (ends[good[:32]], ends[bad[:32]]) == ("applied", "rolled back")
    found = watched.prometheus.exemplars("reconciler_rollout_phase_duration_seconds_bucket")
    assert good[:32] in found or bad[:32] in found


def page_and_commands_tell(fleet: Harness, good: int, bad: str) -> None:
    page = json.loads(fleet.http("/api/status")[1])
    status = json.loads(fleet.daemon.cli("status", "-o", "json").stdout)
    numbers = {vm["name"]: vm["generation"] for vm in status["vms"]}
    assert {vm["name"]: vm["generation"] for vm in page["vms"]} == numbers
    assert numbers[WEB[0]] == {"running": good, "desired": good + 1, "last_good": good}
    assert [vm["name"] for vm in page["vms"] if vm["sync"] == "blocked"] == [WEB[0]]
    assert page["revision"]["observed"] == status["revision"]["observed"] == bad
    shown = " ".join(re.sub(r"<[^>]*>", " ", fleet.http(f"/vm/{WEB[0]}")[1]).split())
    assert f"Runs generation {good} Wants generation {good + 1} Last good {good} " in shown
    assert "condemned" in shown
    history = json.loads(fleet.daemon.cli("history", WEB[0], "-o", "json").stdout)
    verdicts = {one["number"]: one["verdict"] for one in history["generations"]}
    assert (verdicts[good], verdicts[good + 1]) == ("committed", "condemned")
    said = fleet.daemon.cli("events", "-n", "1000", "-o", "json").stdout.splitlines()
    for kind, number in (("generation-condemned", good + 1), ("rolled-back", good)):
        last = [one for one in map(json.loads, said) if one["kind"] == kind][-1]
        assert (last["vm"], last["group"], last["generation"]) == (WEB[0], GROUP, number)
        assert last == events(fleet, kind)[-1], "the command says what the daemon says"
        assert kind != "generation-condemned" or last["revision"] == bad
    assert fleet.daemon.cli("reconcile", "--wait").returncode == 4


def every_query_has_an_answer(server: Prometheus, begun: float) -> None:
    silent = [
        query
        for path in sorted(DASHBOARDS.glob("*.json"))
        for query in asked(json.loads(path.read_text(encoding="utf-8")))
        if not server.series(filled_in(query), begun, time.time())  # noqa: TID251
    ]
    assert {query for query in silent if "reconciler_vm_network_" not in query} == set()
    assert len(silent) == 3, "plain processes have no cgroup that counts for them"
