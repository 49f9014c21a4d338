"""The daemon dies as soon as it wrote an intent, over and over, through a database's whole story."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import pytest

from demo.fleet import DATABASE, WEB
from tests.integration.harness import Harness
from tests.integration.test_crashes import never_two_guests
from tests.integration.test_data import SCRIBBLE, Records

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

LOOK_EVERY = 0.003
DEATHS_A_KIND = 2
"""In each chapter: a rollback stops and starts too."""
LEAST_DEATHS = 10
ROLLED_BACK = 300.0


@dataclass
class Reaper:
    """Reads the real ledger beside the daemon, and kills it at intents that it has not yet died at."""

    fleet: Harness
    chapter: str = ""
    died: list[tuple[str, str]] = field(default_factory=list)
    _seen: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def reaping(self) -> Iterator[None]:
        self._new_intents()
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_EVERY):
            for kind in self._new_intents():
                point = (self.chapter, kind)
                if Counter(self.died)[point] < DEATHS_A_KIND:
                    self.died.append(point)
                    self.fleet.daemon.kill()
                    self.fleet.daemon.start()
                    break

    def _new_intents(self) -> list[str]:
        ledger = f"file:{self.fleet.stage.state / 'ledger.db'}?mode=ro"
        with suppress(sqlite3.OperationalError):  # the daemon just opens it
            connection = sqlite3.connect(ledger, uri=True)
            try:
                found = connection.execute(
                    "SELECT sequence, body FROM intents WHERE sequence > ? ORDER BY sequence",
                    (self._seen,),
                ).fetchall()
            finally:
                connection.close()
            self._seen = max([self._seen, *(sequence for sequence, _ in found)])
            return [json.loads(body)[0]["kind"] for _, body in found]
        return []


def write_and_end(script: str) -> str:
    """A bad generation: it writes into the database's file, and ends."""
    scribble = f"echo {SCRIBBLE} >>/var/lib/app/records; sync; usleep 300000; poweroff -f\n"
    return script.replace("exec httpd", scribble + "exec httpd")


@pytest.mark.shows(promise=15)
def test_a_daemon_that_dies_at_its_intents_carries_update_failure_rollback_and_removal_to_one_end(
    fleet: Harness,
) -> None:
    fleet.edit(DATABASE, lambda spec: spec["update"].update(snapshotVolumes=True))
    fleet.settled(fleet.push("db: keep the volume until a generation is good"))
    records, reaper = Records(fleet), Reaper(fleet)
    records.append(*(f"before {n}" for n in range(5)))
    with never_two_guests(fleet), reaper.reaping():
        reaper.chapter = "update"
        fleet.pages("a good update", DATABASE)
        good = fleet.settled(fleet.push("db: a good update"), deadline=ROLLED_BACK)
        records.append(*(f"between {n}" for n in range(5)))

        reaper.chapter = "failure"
        script = fleet.repository.read("db/etc/rc.local")
        fleet.repository.write("db/etc/rc.local", write_and_end(script), mode=0o755)
        fleet.push("db: a bad update that writes before it fails")
        fleet.until(
            "the database went back",
            lambda now: now.vms[DATABASE].rolled_back and now.vms[DATABASE].healthy,
            ROLLED_BACK,
        )
        records.append("after")

        reaper.chapter = "removal"
        fleet.repository.write("db/etc/rc.local", script, mode=0o755)
        fleet.drop(WEB[1])
        revision = fleet.push("web-b goes")
        fleet.until("web-b is gone", lambda now: WEB[1] not in now.vms, ROLLED_BACK)
    last = fleet.settled(revision, DATABASE, WEB[0])
    assert last.vms[DATABASE].running == good.vms[DATABASE].running
    assert fleet.guests(WEB[1]) == []
    assert records.stored() == records.acknowledged
    print(f"{len(reaper.died)} deaths: {reaper.died}")  # noqa: T201 - pytest shows it
    assert len(reaper.died) >= LEAST_DEATHS
    assert {chapter for chapter, _ in reaper.died} == {"update", "failure", "removal"}
