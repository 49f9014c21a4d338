"""An update and a rollback as a real Prometheus, a real Alertmanager and our dashboards tell them."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.fleet import NAMES, WEB
from tests.integration.harness import Harness
from tests.integration.monitoring import Prometheus, Receiver, watching
from tests.unit.dashboards.queries import asked, filled_in
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
SOON = 30.0
ROLLBACKS = 'sum(reconciler_rollbacks_total{result="succeeded"})'


@pytest.fixture
def watched(fleet: Harness, tmp_path: Path) -> Iterator[tuple[Prometheus, Receiver]]:
    with watching(tmp_path, fleet.daemon.settings.http_port) as (prometheus, receiver):
        wait_until(lambda: prometheus.value("reconciler_build_info"), SOON, "the first scrape")
        yield prometheus, receiver


def update_and_roll_back(fleet: Harness) -> None:
    """A push that works, then one that does not."""
    fleet.pages("watched", WEB[0])
    good = fleet.push("an update")
    fleet.until("updated", lambda now: now.applied == good and now.settled(good, *NAMES))
    fleet.repository.write(f"{WEB[0]}/etc/rc.local", POWER_OFF, mode=0o755)
    bad = fleet.push("it powers off")
    fleet.until("went back", lambda now: now.observed == bad and now.rolled_back() == [WEB[0]])


def rolled_back_events(fleet: Harness) -> int:
    answer: dict[str, Any] = fleet.daemon.control.get("/v1/events?limit=10000")
    return sum(event["kind"] == "rolled-back" for event in answer["events"])


def test_the_whole_story_is_in_prometheus_the_alert_and_every_panel(
    fleet: Harness, watched: tuple[Prometheus, Receiver]
) -> None:
    prometheus, receiver = watched
    begun, before = time.time() - 1, prometheus.value(ROLLBACKS)  # noqa: TID251 - Prometheus asks
    assert before is not None
    events = rolled_back_events(fleet)
    update_and_roll_back(fleet)

    alert = wait_until(
        lambda: receiver.alerts("ReconcilerRollbackHappened"), SOON, "the alert was delivered"
    )[0]
    assert alert["status"] == "firing"
    assert alert["labels"]["severity"] == "warning"
    assert alert["labels"]["reason"] == "exited"
    assert WEB[0] in alert["annotations"]["description"]
    others = prometheus.firing() - {"ReconcilerStateRecovered"}  # an earlier test may lose a ledger
    assert others == {"ReconcilerRollbackHappened"}

    assert prometheus.value(ROLLBACKS) == before + 1
    assert rolled_back_events(fleet) == events + 1
    fleet_now = fleet.fleet()
    for name, vm in fleet_now.vms.items():
        of = f'{{vm="{name}"}}'
        assert prometheus.value(f"reconciler_vm_running_generation{of}") == vm.running
        assert prometheus.value(f"reconciler_vm_desired_generation{of}") == vm.desired
        assert prometheus.value(f"reconciler_vm_last_good_generation{of}") == vm.last_good
        assert prometheus.value(f"reconciler_vm_healthy{of}") == vm.healthy
    page = json.loads(fleet.http("/api/status")[1])
    command = json.loads(fleet.daemon.cli("status", "-o", "json").stdout)
    assert {vm["name"]: vm["generation"] for vm in page["vms"]} == {
        vm["name"]: vm["generation"] for vm in command["vms"]
    }
    assert [vm["name"] for vm in page["vms"] if vm["sync"] == "blocked"] == [WEB[0]]
    assert "condemned" in fleet.http(f"/vm/{WEB[0]}")[1]

    silent = [
        query
        for path in sorted(DASHBOARDS.glob("*.json"))
        for query in asked(json.loads(path.read_text(encoding="utf-8")))
        if not prometheus.series(filled_in(query), begun, time.time())  # noqa: TID251
    ]
    assert silent == []
