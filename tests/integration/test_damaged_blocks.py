"""A byte of an image changes below a guest that compares blocks: the guest says so, and the host finds out."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
import yaml

from demo.daemon import free_port
from demo.stage import Stage
from tests.integration import evidence
from tests.integration.harness import FIRST, Harness
from tests.integration.test_verity import MARK, READ
from tests.wait import wait_until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.stacks,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        any(shutil.which(name) is None for name in ("qemu-system-x86_64", "veritysetup")),
        reason="qemu-system-x86_64 or veritysetup (cryptsetup-bin) is missing",
    ),
]

MADE_AGAIN = 90.0


class Sealed(Harness):
    """One VM whose guest compares what it reads."""

    def __init__(self) -> None:
        self.stage = Stage.open()
        self.ports = {"sealed": free_port()}

    def open(self) -> None:
        document = {
            "apiVersion": "reconciler/v1",
            "kind": "MicroVM",
            "metadata": {"name": "sealed"},
            "spec": {
                "store": {"layers": [{"busybox": {}}, {"tree": "./app"}], "verity": True},
                "interfaces": [
                    {"type": "user", "forward": [{"host": self.ports["sealed"], "guest": 80}]}
                ],
                "health": {
                    "checks": [{"http": {"port": self.ports["sealed"], "path": "/healthz"}}],
                    "minHealthyTime": "1s",
                    "startupDeadline": "90s",
                },
            },
        }
        self.repository.write("sealed.yaml", yaml.safe_dump(document))
        self.repository.write("app/etc/rc.local", "#!/bin/sh\nhttpd -p 80 -h /www\n", mode=0o755)
        self.repository.write("app/www/cgi-bin/read", READ, mode=0o755)
        self.repository.write("app/www/healthz", "ok\n")
        self.repository.write("app/www/data", MARK.decode() * 2000)
        revision = self.push("sealed")
        self.stage.seed()
        self.daemon.start()
        self.settled(revision, "sealed", deadline=FIRST)

    def events(self, kind: str) -> list[str]:
        found = self.daemon.control.get("/v1/events?limit=1000")["events"]
        return [one["message"] for one in found if one["kind"] == kind]


@pytest.fixture
def sealed(request: pytest.FixtureRequest) -> Iterator[Sealed]:
    sealed = Sealed()
    try:
        with evidence.kept_of(sealed.stage, request.node):
            sealed.open()
            yield sealed
    finally:
        sealed.close()


def test_a_block_that_a_guest_cannot_read_is_found_in_the_store_and_made_again(
    sealed: Sealed,
) -> None:
    (image,) = (
        path
        for path in sealed.stage.state.glob("layers/*/image")
        if (path.with_name("verity")).exists() and MARK * 3 in path.read_bytes()
    )
    sound, inode = image.read_bytes(), image.stat().st_ino
    place = sound.find(MARK, len(sound) // 4)
    image.chmod(0o600)
    with image.open("r+b") as file:
        file.seek(place)
        file.write(bytes((sound[place] ^ 1,)))
    image.chmod(0o444)
    assert sealed.ask("sealed", "/cgi-bin/read").startswith("not read:")
    wait_until(lambda: sealed.events("block-damaged"), MADE_AGAIN, "the guest's word is an event")
    wait_until(lambda: sealed.events("damage-checked"), MADE_AGAIN, "the store was read again")
    (found,) = sealed.events("damage-checked")
    assert "sealed was right: the store's copy of tree ./app" in found
    assert image.parent.name[:12] in found

    def made_again() -> bool:
        return image.exists() and image.stat().st_ino != inode and image.read_bytes() == sound

    wait_until(made_again, MADE_AGAIN, "it is made again, the same")
    before = sealed.fleet().vms["sealed"].instance
    sealed.daemon.cli("restart", "sealed")
    sealed.until(
        "another guest reads all of it",
        lambda now: now.vms["sealed"].instance not in (None, before) and now.vms["sealed"].healthy,
    )
    assert sealed.ask("sealed", "/cgi-bin/read") == "read"
    assert len(sealed.events("block-damaged")) == 1
