"""A Debian disk with cloud-init, booted by firmware: configured by the manifest, updated, rolled back, handed over."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo.client import Fleet
from demo.daemon import free_port
from demo.poller import Poller
from demo.processes import guests_under
from demo.stage import Stage
from reconciler.host import layout
from tests.integration import evidence
from tests.integration.cloud_disk import cloud_disk
from tests.integration.harness import request
from tests.wait import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.stacks, pytest.mark.timeout(1800)]

BOOT = 600.0
"""Seconds; firmware, kernel, systemd and cloud-init take some 40 s under emulation, and minutes on a busy machine."""
MANIFEST = """\
apiVersion: reconciler/v1
kind: MicroVM
metadata: {{name: app}}
spec:
  memory: 512MiB
  disk:
    path: {disk}
    sha256: {sha256}
    format: qcow2
    firmware: {firmware}
    cloudInit:
      userData: |
        #cloud-config
        write_files:
          - path: /srv/www/index.html
            content: "{page}"
        runcmd:
          - mkdir -p /srv/data
          - echo {page} >>/srv/data/log
          - cp /srv/data/log /srv/www/log
          - {run}
  volumes: {volumes}
  interfaces: [{{type: user, forward: [{{host: {port}, guest: 80}}]}}]
  update: {{strategy: {strategy}}}
  health:
    startupDeadline: 500s
    minHealthyTime: 2s
    period: 1s
    checks: [{{http: {{port: {port}, path: /}}}}]
"""
SERVE = "systemd-run --unit=web python3 -m http.server 80 --directory /srv/www"
DATA = "[{name: data, mountPoint: /srv/data, size: 64MiB}]"


@dataclass
class World:
    """One VM that boots a disk of the host, on a daemon that allows it."""

    stage: Stage
    disk: Path
    sha256: str
    port: int

    def push(
        self, page: str, firmware: str = "uefi", run: str = SERVE, strategy: str = "restart",
        volumes: str = "[]",
    ) -> str:  # fmt: skip
        text = MANIFEST.format(
            disk=self.disk, sha256=self.sha256, firmware=firmware, page=page, run=run,
            port=self.port, strategy=strategy, volumes=volumes,
        )  # fmt: skip
        self.stage.repository.write("app.yaml", text)
        return self.stage.repository.push(f"{page} by {firmware}")

    def page(self, path: str = "/") -> str:
        return request(self.port, path)[1]

    def settled(self, revision: str) -> Fleet:
        def look() -> Fleet | None:
            fleet = self.stage.daemon.fleet()
            return fleet if fleet.settled(revision, "app") else None

        return wait_until(look, BOOT, f"settled at {revision[:8]}")

    def base(self) -> Path:
        (found,) = layout.images(self.stage.state, "disks").glob("[!.]*/image")
        return found


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    made = cloud_disk()
    stage = Stage.open()
    try:
        images = stage.root / "images"
        images.mkdir()
        disk = images / "debian.qcow2"
        shutil.copy(made, disk)
        config = stage.daemon.config
        allowed = f'[policy]\nhost_paths = ["{images}"]'
        text = config.read_text(encoding="utf-8").replace("[policy]", allowed)
        config.write_text(text, encoding="utf-8")
        with disk.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        with evidence.kept_of(stage, request.node):
            yield World(stage, disk, sha256, free_port())
    finally:
        assert stage.close() == []


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_a_cloud_disk_is_configured_updated_and_rolled_back(world: World) -> None:
    stage = world.stage
    first = world.push("first", volumes=DATA)
    stage.daemon.start()
    world.settled(first)
    assert world.page() == "first"
    base, before = world.base(), digest(world.base())
    made = base.stat().st_ino

    second = world.push("second", volumes=DATA)
    world.settled(second)
    assert world.page() == "second"
    assert (world.base().stat().st_ino, digest(world.base())) == (made, before), "shared, unwritten"
    assert "Power down" in stage.console("app") or "Powering off" in stage.console("app")

    world.push("third", run="poweroff", volumes=DATA)
    wait_until(lambda: stage.daemon.fleet().rolled_back() == ["app"], 2 * BOOT, "rolled back")
    wait_until(lambda: stage.daemon.fleet().vms["app"].healthy, BOOT, "healthy again")
    assert world.page() == "second"
    assert world.page("/log").split() == ["first", "second", "third", "second"], "on the volume"
    (guest,) = guests_under(stage.root)
    left = [path.name for path in layout.run(layout.vm(stage.state, "app")).iterdir()]
    assert sorted(left) == ["guest.json", "qmp.sock"], f"the overlay of {guest.pid} has no name"


def test_a_disk_by_bios_is_handed_over_and_no_request_gets_lost(world: World) -> None:
    first = world.push("first", "bios", strategy="handover")
    world.stage.daemon.start()
    world.settled(first)
    with Poller({"app": world.port}, interval=0.1, timeout=20.0) as poller:
        world.settled(world.push("second", "bios", strategy="handover"))
        wait_until(lambda: poller.answers("app", 0.0)[-1].text == "second", 60.0, "a second answer")
        answers = poller.answers("app", 0.0)
    assert [one for one in answers if not one.ok] == []
    assert {one.text for one in answers} == {"first", "second"}
