"""A Debian disk whose writes are kept: they last as long as its image does, and are never seen above another one."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from demo.daemon import free_port
from demo.stage import Stage
from reconciler.host import layout
from tests.integration import evidence
from tests.integration.cloud_disk import cloud_disk
from tests.integration.harness import request
from tests.integration.test_boot_disk import BOOT
from tests.wait import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.stacks, pytest.mark.timeout(1800)]

SIZE_GIB = 3
"""More than that of the image."""
UNIT = """\
[Unit]
Description=Says which boots this disk has seen
[Service]
ExecStartPre=/bin/sh -c 'read -r page </srv/page; echo $page >>/srv/www/boots'
ExecStartPre=/bin/cp /sys/block/vda/size /srv/www/size
ExecStart=python3 -m http.server 80 --directory /srv/www
[Install]
WantedBy=multi-user.target
"""
TOO_SMALL = "48MiB"
"""Its kernel does not come up with it."""


@dataclass
class World:
    """One VM that boots a disk of the host, and two images to choose from."""

    stage: Stage
    images: tuple[Path, Path]
    port: int

    def push(self, page: str, image: int, memory: str = "512MiB", deadline: str = "500s") -> str:
        """cloud-init does once what is new in these texts; then the disk has it."""
        path = self.images[image]
        files = {"/srv/page": f"{page}\n", "/etc/systemd/system/boots.service": UNIT}
        start = ["mkdir -p /srv/www", "systemctl daemon-reload", "systemctl enable --now boots"]
        seed = {
            "write_files": [{"path": name, "content": text} for name, text in files.items()],
            "runcmd": start,
        }
        document = {
            "apiVersion": "reconciler/v1",
            "kind": "MicroVM",
            "metadata": {"name": "app"},
            "spec": {
                "memory": memory,
                "disk": {
                    "path": str(path), "sha256": sha256(path), "format": "qcow2",
                    "writable": {"volume": "root"},
                    "cloudInit": {"userData": f"#cloud-config\n{yaml.safe_dump(seed)}"},
                },
                "volumes": [{"name": "root", "size": f"{SIZE_GIB}GiB"}],
                "interfaces": [{"type": "user", "forward": [{"host": self.port, "guest": 80}]}],
                "health": {
                    "startupDeadline": deadline, "minHealthyTime": "2s", "period": "1s",
                    "checks": [{"http": {"port": self.port, "path": "/boots"}}],
                },
            },
        }  # fmt: skip
        self.stage.repository.write("app.yaml", yaml.safe_dump(document))
        return self.stage.repository.push(f"{page} on image {image}, {memory}")

    def settled(self, revision: str) -> None:
        wait_until(
            lambda: self.stage.daemon.fleet().settled(revision, "app"), BOOT, f"settled at {revision[:8]}"
        )  # fmt: skip

    def boots(self) -> list[str]:
        return request(self.port, "/boots")[1].split()

    def kept(self) -> set[str]:
        return {path.name for path in layout.volumes(layout.vm(self.stage.state, "app")).iterdir()}


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    made = cloud_disk()
    stage = Stage.open()
    try:
        folder = stage.root / "images"
        folder.mkdir()
        images = (folder / "one.qcow2", folder / "other.qcow2")
        shutil.copy(made, images[0])
        larger = ["qemu-img", "resize", "-q", str(images[1]), "+64M"]
        shutil.copy(made, images[1])
        subprocess.run(larger, check=True, timeout=60)
        config = stage.daemon.config
        allowed = f'[policy]\nhost_paths = ["{folder}"]'
        text = config.read_text(encoding="utf-8").replace("[policy]", allowed)
        config.write_text(text, encoding="utf-8")
        with evidence.kept_of(stage, request.node):
            yield World(stage, images, free_port())
    finally:
        assert stage.close() == []


def test_what_a_guest_writes_to_its_disk_lasts_with_its_image_and_a_rollback_finds_it(
    world: World,
) -> None:
    stage, port = world.stage, world.port
    names = [f"root-{sha256(image)}.qcow2" for image in world.images]
    first = world.push("first", 0)
    stage.daemon.start()
    world.settled(first)
    assert world.boots() == ["first"]
    assert int(request(port, "/size")[1]) == SIZE_GIB << 21, "sectors of the volume's size"

    world.settled(world.push("second", 1))
    assert world.boots() == ["second"], (
        "another image has nothing of what was written above the first"
    )
    assert world.kept() == set(names), "which is kept"

    world.push("third", 0, TOO_SMALL, "60s")
    wait_until(lambda: stage.daemon.fleet().rolled_back() == ["app"], BOOT, "rolled back")
    wait_until(lambda: stage.daemon.fleet().vms["app"].healthy, BOOT, "healthy again")
    assert world.boots() == ["second", "second"], "the image before, with what was written above it"

    world.settled(world.push("first", 0))
    assert world.boots() == ["first", "first"], "an image that comes back has what it had"
    assert world.kept() == set(names)
