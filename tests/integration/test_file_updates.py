"""A VM of files of others in a daemon's life: updated by one download, never touched by a wrong one, rolled back."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.stage import Stage
from tests.integration.harness import FIRST
from tests.integration.one_vm import OneVM, stage_that_allows
from tests.unit.image import ready
from tests.unit.image.stranger import Answer, Asked, Stranger, serving, whole

pytestmark = [
    pytest.mark.integration,
    pytest.mark.stacks,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        shutil.which("qemu-system-x86_64") is None or shutil.which("mksquashfs") is None,
        reason="qemu-system-x86_64 or mksquashfs is missing",
    ),
]

SCRIPT = '#!/bin/sh\nmkdir "$OUT/www"; cat "$IN/greeting" >"$OUT/www/greeting"\n'
SERVE = "#!/bin/sh\nexec httpd -p 80 -h /www\n"


class Host(OneVM):
    """A daemon that may have images of one server and one script, and one VM of them."""

    def __init__(self, stage: Stage, server: Stranger, files: dict[str, Path]) -> None:
        """`files`: what the server has, by path."""
        super().__init__(stage)
        self.server = server
        self.files = files

    def publish(self, name: str, page: str) -> Path:
        files = {page: f"{name}\n", "etc/rc.local": SERVE}
        content = ready.folder_with(self.stage.root / name, **files)
        (content / "etc/rc.local").chmod(0o755)
        self.files[f"/{name}"] = ready.make("squashfs", content, self.stage.root / f"{name}.img")
        return self.files[f"/{name}"]

    def push(self, name: str, greeting: str, *, sha256: str = "") -> str:
        image = {
            "url": self.server.url(f"/{name}"),
            "sha256": sha256 or ready.sha256(self.files[f"/{name}"]),
        }
        owned = {"path": "./owned", "owners": {"/srv/secret": "0:33 0640"}}
        layers: list[dict[str, Any]] = [
            {"busybox": {}},
            {"image": image},
            {"script": {"run": "make", "inputs": "./in"}},
            {"tree": owned},
        ]
        write = self.stage.repository.write
        write("in/greeting", greeting)
        write("owned/srv/secret", "s")
        health = {"checks": [{"http": {"port": self.port, "path": "/index.html"}}]}
        return self.declare(layers, 80, name, health=health)

    def answers(self) -> tuple[str, str]:
        return self.answer("/index.html"), self.answer("/greeting")


@pytest.fixture
def host(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Host]:
    files: dict[str, Path] = {}

    def answering(_stranger: Stranger) -> Answer:
        def answer(asked: Asked) -> Iterator[bytes]:
            return whole(files[asked.path].read_bytes())(asked)

        return answer

    program = tmp_path / "make"
    program.write_text(SCRIPT)
    program.chmod(0o755)
    more = f'[policy.scripts.make]\npath = "{program}"\n'
    with (
        serving(answering) as server,
        stage_that_allows({"image_urls": [server.pattern]}, request.node, more=more) as stage,
    ):
        yield Host(stage, server, files)


def test_a_vm_of_ready_images_is_updated_left_alone_and_rolled_back(host: Host) -> None:
    host.publish("one", "www/index.html")
    host.publish("two", "www/index.html")
    host.publish("bad", "www/other.html")
    revision = host.push("one", "hello\n")
    host.start()
    host.until("the first is healthy", lambda now: now.settled(revision, "app"), FIRST)
    assert host.answers() == ("one", "hello")

    layers, asked = host.stage.layers(), len(host.server.asked)
    revision = host.push("two", "hello\n")
    fleet = host.until("the second is healthy", lambda now: now.settled(revision, "app"))
    assert host.answers() == ("two", "hello")
    assert len(host.stage.layers() - layers) == 1, "one layer was made"
    assert [one.path for one in host.server.asked[asked:]] == ["/two"]

    pid = fleet.vms["app"].pid
    host.push("two", "hello\n", sha256="0" * 64)
    host.until("the wrong one is told", lambda now: "another sha256" in now.vms["app"].why)
    fleet = host.stage.daemon.fleet()
    assert (fleet.vms["app"].pid, fleet.vms["app"].healthy) == (pid, True)
    assert host.answers() == ("two", "hello")

    revision = host.push("two", "good day\n")
    host.until("the script ran again", lambda now: now.settled(revision, "app"))
    assert host.answers() == ("two", "good day")

    host.push("bad", "good day\n")
    host.until(
        "it went back", lambda now: now.vms["app"].sync == "blocked" and now.vms["app"].healthy
    )
    assert host.answers() == ("two", "good day")
