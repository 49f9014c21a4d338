"""Guests of Debian packages with systemd: nginx and Postgres are booted, updated and rolled back."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from demo.daemon import free_port
from demo.stage import MANIFESTS, Stage
from tests.integration import debian_images, evidence
from tests.integration.harness import Harness, request
from tests.integration.postgres_client import Connection, StatementFailed
from tests.wait import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.stacks, pytest.mark.timeout(1500)]

FIRST = 1200.0
"""Seconds until the first guest is healthy: the base may have to be downloaded and made."""
BOOT = 240.0
SITE = "site/etc/nginx/sites-enabled/default"
CLEAN_END = "reboot: Power down"
SETTINGS = "site/etc/postgresql/15/main/conf.d/guest.conf"
SCRIPT = "site/usr/local/sbin/create-database"
SCRIBBLE = "scribbled by a bad generation"


class Alone(Harness):
    """One VM of `manifests/`, on a port of its own."""

    def __init__(self, vm: str) -> None:
        self.stage = Stage.open()
        self.vm = vm
        self.port = free_port()
        self.good = ""

    def open(self) -> None:
        self.repository.copy_from(MANIFESTS / self.vm)
        shipped = self.repository.read(f"{self.vm}.yaml")
        port = shipped.partition("host: ")[2].partition(",")[0]
        self.repository.write(f"{self.vm}.yaml", shipped.replace(port, str(self.port)))
        self.stage.seed()
        debian_images.seed(self.stage.state)
        self.good = self.push("as shipped")
        self.daemon.start()
        self.settled(self.good, self.vm, deadline=FIRST)
        debian_images.save(self.stage.state)

    def answer(self, path: str = "/") -> str:
        """What the guest answers, or nothing while it does not."""
        with suppress(OSError, http.client.HTTPException):
            return request(self.port, path)[1]
        return ""


@contextmanager
def running(vm: str, node: pytest.Item) -> Iterator[Alone]:
    """The VM as it is shipped, healthy."""
    debian_images.skip_without_them()
    alone = Alone(vm)
    try:
        with evidence.kept_of(alone.stage, node):
            alone.open()
            yield alone
    finally:
        alone.close()


@pytest.fixture(scope="module")
def nginx(request: pytest.FixtureRequest) -> Iterator[Alone]:
    with running("nginx", request.node) as alone:
        yield alone


@pytest.fixture
def postgres(request: pytest.FixtureRequest) -> Iterator[Alone]:
    with running("postgres", request.node) as alone:
        yield alone


def test_nginx_of_debian_answers_and_its_services_print_to_the_console(nginx: Alone) -> None:
    assert nginx.answer() == "<h1>nginx of Debian</h1>"
    assert nginx.answer("/healthz") == "ok"
    assert "systemd[1]:" in nginx.stage.console("nginx")


def test_a_changed_file_of_the_configuration_makes_one_layer_and_the_guest_ends_cleanly(
    nginx: Alone,
) -> None:
    before = nginx.stage.layers()
    site = nginx.repository.read(SITE)
    nginx.repository.write(SITE, site.replace("ok\\n", "changed\\n"))
    nginx.settled(nginx.push("another answer"), "nginx", deadline=BOOT)
    assert nginx.answer("/healthz") == "changed"
    assert len(nginx.stage.layers() - before) == 1
    assert CLEAN_END in nginx.stage.console("nginx")


def test_a_bad_configuration_is_rolled_back(nginx: Alone) -> None:
    serving = nginx.fleet().vms["nginx"].running
    good = nginx.repository.read(SITE)
    nginx.edit("nginx", lambda spec: spec["health"].update(startupDeadline="40s"))
    nginx.repository.write(SITE, good.replace("listen 80", "lisssten 80"))
    nginx.push("nginx cannot start with this")
    nginx.until(
        "nginx went back",
        lambda now: now.vms["nginx"].rolled_back and now.vms["nginx"].running == serving,
        deadline=2 * BOOT,
    )
    assert nginx.answer("/healthz") == "changed"
    assert 'unknown directive "lisssten"' in nginx.stage.console("nginx")


class Records:
    """Appends records to the database, and remembers those that it acknowledged."""

    def __init__(self, guest: Alone) -> None:
        self._guest = guest
        self.acknowledged: list[str] = []
        # It answers before the database is made.
        wait_until(self._has_database, BOOT, "the database is there")
        self._run("CREATE TABLE records (number serial PRIMARY KEY, record text)")

    def append(self, *records: str) -> None:
        for record in records:
            self._run(f"INSERT INTO records (record) VALUES ('{record}')")  # noqa: S608 - of this test
            self.acknowledged.append(record)

    def stored(self) -> list[str]:
        return self._run("SELECT record FROM records ORDER BY number")

    def _has_database(self) -> bool:
        with suppress(OSError, StatementFailed):
            return self._run("SELECT 1") == ["1"]
        return False

    def _run(self, statement: str) -> list[str]:
        with Connection(self._guest.port, "records") as connection:
            return connection.run(statement)


def test_postgres_loses_no_acknowledged_record_by_an_update_and_by_a_rollback(
    postgres: Alone,
) -> None:
    records = Records(postgres)
    records.append(*(f"before the update {n}" for n in range(5)))

    settings = postgres.repository.read(SETTINGS)
    postgres.repository.write(SETTINGS, f"{settings}work_mem = 8MB\n")
    postgres.settled(postgres.push("more memory"), "postgres", deadline=BOOT)
    assert records.stored() == records.acknowledged
    records.append(*(f"after the update {n}" for n in range(5)))

    serving = postgres.fleet().vms["postgres"].running
    postgres.edit("postgres", lambda spec: spec["health"].update(startupDeadline="75s"))
    postgres.repository.write(SETTINGS, settings.replace("'*'", "'localhost'"))
    script = postgres.repository.read(SCRIPT)
    scribble = f"as psql -q -d records -c \"INSERT INTO records (record) VALUES ('{SCRIBBLE}')\""  # noqa: S608
    said = f"echo {SCRIBBLE}"
    postgres.repository.write(
        SCRIPT, script.replace("found=", f"{scribble}; {said}\nfound="), mode=0o755
    )
    postgres.push("writes, and cannot be reached")
    wait_until(lambda: SCRIBBLE in postgres.stage.console("postgres"), BOOT, "it wrote")
    postgres.until(
        "postgres went back",
        lambda now: now.vms["postgres"].rolled_back and now.vms["postgres"].running == serving,
        deadline=2 * BOOT,
    )
    assert records.stored() == records.acknowledged, "what the bad generation wrote is undone"
    records.append("after the rollback")
    assert records.stored() == records.acknowledged
