"""Guests that do not want to stop, and data that must not be lost when they do."""

import time

import pytest

from demo.fleet import DATABASE, WEB
from tests.integration.harness import Harness

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600), pytest.mark.shows(row=9)]

DEAF = "#!/bin/sh\nexit 0\n"
POWER_BUTTON = "etc/acpi/PWRF/00000080"
STOP_TIMEOUT = 3.0
LADDER = 20.0
"""SIGTERM and SIGKILL have 10 s each after the power button."""


def test_a_guest_that_ignores_the_power_button_is_stopped_all_the_same(fleet: Harness) -> None:
    vm = WEB[1]
    fleet.repository.write(f"{vm}/{POWER_BUTTON}", DEAF, mode=0o755)
    fleet.edit(vm, lambda spec: spec["update"].update({"stopTimeout": f"{STOP_TIMEOUT:.0f}s"}))
    before = fleet.settled(fleet.push("deaf"))
    fleet.pages("after the deaf one", vm)
    fleet.push("replace it")
    begun = time.monotonic()
    fleet.until(
        "the deaf guest is gone",
        lambda now: now.vms[vm].pid != before.vms[vm].pid,
        STOP_TIMEOUT + LADDER + 30,
    )
    assert time.monotonic() - begun >= STOP_TIMEOUT, "it had its chance"
    fleet.settled(fleet.repository.head())
    assert fleet.ask(vm) == f"{vm}: after the deaf one"


def test_data_of_a_volume_is_kept_through_update_and_rollback(fleet: Harness) -> None:
    records = "/cgi-bin/records"
    script = fleet.repository.read(f"{DATABASE}/etc/rc.local")
    before = fleet.ask(DATABASE, records)
    assert fleet.ask(DATABASE, records, "written before the update").startswith("records:")
    fleet.pages("updated", DATABASE)
    fleet.settled(fleet.push("update"))
    assert fleet.ask(DATABASE, records, "written after the update").startswith("records:")
    broken = script.replace("exec httpd", "usleep 200000; poweroff -f; exec httpd")
    assert broken != script
    fleet.repository.write(f"{DATABASE}/etc/rc.local", broken, mode=0o755)
    fleet.push("broken")
    fleet.until("rolled back", lambda now: now.vms[DATABASE].rolled_back)
    lines = fleet.ask(DATABASE, records).splitlines()
    assert lines[-2:] == ["written before the update", "written after the update"]
    assert "\n".join(lines[:-2]) == before
