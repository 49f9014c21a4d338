"""How the program of an image ends is how its guest ends: restarted, left off, or rolled back by the controller."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo.client import VM
from demo.stage import Stage
from reconciler.image.debian_packages import Debian
from reconciler.image.inputs.busybox import fetch_busybox
from tests.integration.harness import FIRST
from tests.integration.one_vm import ROLL, OneVM, stage_that_allows
from tests.registry.images import Entry, Layout, write_layer
from tests.wait import wait_until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.stacks,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        shutil.which("qemu-system-x86_64") is None or shutil.which("mksquashfs") is None,
        reason="qemu-system-x86_64 or mksquashfs is missing",
    ),
]

ON_REQUEST = "status=$(echo hello | nc -l -p 8000); exit $status"
"""A program that greets, and ends with the status that it is sent."""


class Host(OneVM):
    """A daemon that may have images of one layout on this host, and one VM of them without checks."""

    def __init__(self, stage: Stage, layout: Layout) -> None:
        super().__init__(stage)
        self.layout = layout

    def push(self, digest: str) -> None:
        layer = {"oci": {"layout": str(self.layout.folder), "digest": digest}}
        restart = {"policy": "on-failure"}
        self.declare([layer], 8000, digest[:19], memory="256MiB", restart=restart)

    def until_it(self, what: str, condition: Callable[[VM], object], deadline: float = ROLL) -> VM:
        """Wait for something of the VM alone."""
        fleet = self.until(
            what, lambda now: "app" in now.vms and condition(now.vms["app"]), deadline
        )
        return fleet.vms["app"]

    def end(self, status: int) -> None:
        """Have the program end, once it listens: the VMM accepts before it does, and then hangs up."""

        def greeted() -> bool:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                    if not connection.recv(16).startswith(b"hello"):
                        return False
                    connection.sendall(f"{status}\n".encode())
                    return True
            except OSError:
                return False

        wait_until(greeted, ROLL, "the program listens")


@pytest.fixture
def host(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Host]:
    with stage_that_allows({"host_paths": [str(tmp_path)]}, request.node) as stage:
        yield Host(stage, Layout(tmp_path / "layout"))


def test_the_end_of_a_program_is_judged_as_the_end_of_any_guest(host: Host, tmp_path: Path) -> None:
    busybox = asyncio.run(fetch_busybox(Debian(), tmp_path / "packages"))
    layer = write_layer(
        tmp_path / "layer.tar",
        {"bin/": "", "bin/sh": Entry(busybox.read_bytes(), 0o755), "etc/": ""},
    )
    command = ["/bin/sh", "-c", ON_REQUEST]
    good = host.layout.add("good", layer, settings={"config.entrypoint": command})
    missing = host.layout.add("missing", layer, settings={"config.entrypoint": ["/bin/bash"]})

    host.push(good)
    host.start()
    first = host.until_it("it is up, by its announcement", lambda vm: vm.settled, FIRST)

    host.end(3)
    host.until_it("a failure is restarted", lambda vm: vm.settled and vm.instance != first.instance)
    assert "reconciler-failed: program /bin/sh exited with status 3" in host.stage.console("app")

    def events() -> str:
        return str(host.stage.daemon.control.get("/v1/events?limit=100"))

    host.push(missing)
    host.until_it(
        "a program that is missing is rolled back",
        lambda vm: vm.sync == "blocked" and "rolled-back" in events(),
    )
    assert "no such file in the image" in events()

    host.end(0)
    off = host.until_it(
        "a clean end stays off", lambda vm: vm.pid is None and vm.state != "running"
    )
    assert "restart.policy is on-failure: it stays down" in events(), off
