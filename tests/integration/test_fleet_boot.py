"""From an empty host to three guests that serve."""

import pytest

from demo.fleet import DATABASE, NAMES, WEB
from tests.integration.harness import Harness
from tests.wait import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


def test_three_guests_boot_serve_and_are_healthy(fleet: Harness) -> None:
    found = fleet.fleet()
    assert set(found.vms) == set(NAMES)
    for name in NAMES:
        assert fleet.ask(name).startswith(name)
        (guest,) = fleet.guests(name)
        assert found.vms[name].pid == guest.pid


def test_those_that_come_after_another_start_when_it_is_healthy(fleet: Harness) -> None:
    events = fleet.daemon.control.get("/v1/events?limit=10000")["events"]
    first: dict[tuple[str, str], int] = {}
    for event in sorted(events, key=lambda one: one["sequence"]):
        first.setdefault((event["kind"], event["vm"]), event["sequence"])
    healthy = first["generation-committed", DATABASE]
    assert all(first["guest-starting", web] > healthy for web in WEB)


def test_the_guest_knows_which_instance_it_is(fleet: Harness) -> None:
    instance = fleet.fleet().vms[DATABASE].instance
    assert instance
    assert instance in str(fleet.guests(DATABASE)[0].command)


def test_a_power_button_ends_a_guest_cleanly(fleet: Harness) -> None:
    before = fleet.fleet()
    done = fleet.daemon.cli("restart", DATABASE)
    assert done.returncode == 0, done.stderr
    fleet.until(
        "another guest of the same generation",
        lambda now: (
            now.vms[DATABASE].settled
            and now.vms[DATABASE].instance != before.vms[DATABASE].instance
        ),
    )
    assert fleet.fleet().vms[DATABASE].running == before.vms[DATABASE].running
    assert "power button: shutting down" in fleet.stage.console(DATABASE)


def test_metrics_and_health_are_served_on_the_loopback(fleet: Harness) -> None:
    status, text = fleet.http("/metrics")
    assert status == 200
    assert "reconciler_" in text
    assert fleet.http("/healthz")[0] == 200
    assert fleet.http("/readyz")[0] == 200


def test_nothing_to_do_is_said_with_exit_code_0(fleet: Harness) -> None:
    wait_until(lambda: fleet.daemon.cli("plan", "-o", "json").returncode == 0, 30)
    assert fleet.daemon.cli("status", "-o", "json").returncode == 0
