"""A database's records through update, failure, rollback with snapshot, and a dying daemon."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import suppress

import pytest

from demo.fleet import DATABASE
from tests.integration.harness import ROLL, Harness
from tests.wait import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

PATH = "/cgi-bin/records"
HEALTH_FILE = "db/www/healthz"
SCRIBBLE = "scribbled by a bad generation"


class Records:
    """Appends records to the database, and remembers those that it acknowledged."""

    def __init__(self, fleet: Harness) -> None:
        self._fleet = fleet
        self.acknowledged = self.stored()

    def append(self, *records: str) -> None:
        for record in records:
            answer = self._fleet.ask(DATABASE, PATH, record)
            assert answer.startswith("records:"), answer
            self.acknowledged.append(record)

    def stored(self) -> list[str]:
        return self._fleet.ask(DATABASE, PATH).splitlines()


def answered(records: Records) -> list[str]:
    """What is stored, or nothing while nobody answers."""
    with suppress(OSError, http.client.HTTPException):
        return records.stored()
    return []


@pytest.fixture
def records(fleet: Harness) -> Iterator[Records]:
    """The database saves its volume before a new generation writes to it."""
    fleet.edit(DATABASE, lambda spec: spec["update"].update(snapshotVolumes=True))
    fleet.settled(fleet.push("db: keep the volume until a generation is good"))
    kept = Records(fleet)
    yield kept
    assert kept.stored() == kept.acknowledged


@pytest.mark.shows(promise=15)
def test_no_acknowledged_record_is_lost_on_the_way_of_a_bad_update(
    fleet: Harness, records: Records
) -> None:
    records.append(*(f"before the update {n}" for n in range(5)))

    fleet.pages("a good update", DATABASE)
    fleet.settled(fleet.push("db: a good update"))
    assert records.stored() == records.acknowledged
    records.append(*(f"after the update {n}" for n in range(5)))

    serving = fleet.fleet().vms[DATABASE].running
    health = fleet.repository.read(HEALTH_FILE)
    fleet.edit(DATABASE, lambda spec: spec["health"].update(startupDeadline="20s"))
    fleet.repository.write(
        "db/etc/rc.local",
        fleet.repository.read("db/etc/rc.local").replace(
            "exec httpd", f"echo {SCRIBBLE} >>/var/lib/app/records\nexec httpd"
        ),
        mode=0o755,
    )
    fleet.repository.remove(HEALTH_FILE)
    fleet.push("db: a bad update that writes before it fails")
    wait_until(lambda: SCRIBBLE in answered(records), ROLL, "the bad generation wrote")
    # A generation on trial may acknowledge, and is not good yet: what it was given goes with it.
    assert fleet.ask(DATABASE, PATH, "given to a generation on trial").startswith("records:")
    fleet.until(
        "the database went back",
        lambda now: now.vms[DATABASE].rolled_back and now.vms[DATABASE].running == serving,
    )
    assert records.stored() == records.acknowledged, (
        "what the bad generation wrote and took is undone"
    )
    records.append("after the rollback")

    fleet.repository.restore(fleet.good)
    fleet.repository.write(HEALTH_FILE, health)
    fleet.edit(DATABASE, lambda spec: spec["update"].update(snapshotVolumes=True))
    fleet.pages("mended", DATABASE)
    revision = fleet.push("db: mended")
    wait_until(
        lambda: fleet.fleet().vms[DATABASE].state != "running", ROLL, "the update is under way"
    )
    fleet.daemon.kill()
    fleet.daemon.start()
    fleet.settled(revision)
    assert records.stored() == records.acknowledged
    assert fleet.ask(DATABASE) == f"{DATABASE}: mended"
