"""Guests in a bridge, in a network namespace of the test's own: update, rollback, a lost bridge, removal."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator

import pytest
import yaml

from demo.client import DaemonAway, Fleet
from demo.daemon import Daemon, Settings, free_port
from demo.screen import in_words
from demo.stage import Stage
from reconciler.clock import SystemClock
from reconciler.image.store import ImageStore
from reconciler.model.image import DebianKernel, KernelSpec
from reconciler.model.layer_kinds.busybox_layer import BusyboxSource
from reconciler.model.layers import LayerSpec
from reconciler.source.git.clients import TreeExporter
from reconciler.vmm.netlink import TUN
from tests.integration import evidence
from tests.integration.namespace import Namespace
from tests.wait import wait_until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        os.geteuid() != 0 or not TUN.exists() or shutil.which("ip") is None,
        reason="a namespace with taps takes root, /dev/net/tun and ip",
    ),
]
ROLL = 150.0
SERVICE = "#!/bin/sh\nexec httpd -p 80 -h /www\n"
BROKEN = '#!/bin/sh\necho "reconciler-failed: no service" > /dev/console\npoweroff -f\n'
ADDRESS = "10.77.0.2"


def manifest(name: str, **spec: object) -> str:
    tap = {"type": "tap", "bridge": "br0"}
    layers = [{"busybox": {}}, {"tree": f"./{name}"}] if name == "web" else [{"busybox": {}}]
    return yaml.safe_dump(
        {
            "apiVersion": "reconciler/v1",
            "kind": "MicroVM",
            "metadata": {"name": name},
            "spec": {"memory": "128MiB", "store": {"layers": layers}, "interfaces": [tap]} | spec,
        }
    )


WEB = manifest(
    "web",
    interfaces=[{"type": "tap", "bridge": "br0", "address": f"{ADDRESS}/24", "gateway": "10.77.0.1"}],
    health={
        "checks": [{"http": {"port": 80, "path": "/"}}, {"tcp": {"port": 80}}],
        "minHealthyTime": "1s", "startupDeadline": "90s", "period": "1s",
    },
)  # fmt: skip


class Bridged:
    """A daemon in a namespace with the bridge br0, on a repository of two VMs in it."""

    def __init__(self, stage: Stage, net: Namespace) -> None:
        self.stage, self.net = stage, net
        settings = Settings(
            stage.repository.bare, stage.state, stage.root / "control.sock", free_port(),
            bridges=("br0",),
        )  # fmt: skip
        self.daemon = stage.daemon = Daemon(stage.root, settings, net.within)

    def push(self, text: str, service: str = SERVICE) -> str:
        repository = self.stage.repository
        repository.write("web/www/index.html", f"{text}\n")
        repository.write("web/etc/rc.local", service)
        (repository.work / "web/etc/rc.local").chmod(0o755)
        return repository.push(text)

    def until(self, what: str, condition: object, deadline: float = ROLL) -> Fleet:
        assert callable(condition)
        last: list[Fleet] = []

        def look() -> Fleet | None:
            try:
                last[:] = [self.daemon.fleet()]
            except DaemonAway:
                return None
            return last[0] if condition(last[0]) else None

        try:
            return wait_until(look, deadline, what)
        except AssertionError as error:
            words = in_words(last[0] if last else None)
            raise AssertionError(f"{error}\n{words}\n{self.net.links()}") from None

    def settled(self, revision: str, *names: str, deadline: float = ROLL) -> Fleet:
        return self.until(revision[:8], lambda fleet: fleet.settled(revision, *names), deadline)


async def make_images(stage: Stage) -> None:
    """Out here: the namespace leads nowhere, and so not to apt's sources."""
    stage.seed()
    store = ImageStore(stage.state, SystemClock())
    await store.open()
    await store.build_kernel(KernelSpec.of("debian", DebianKernel()), TreeExporter(stage.root))
    await store.build_layer(LayerSpec.of(BusyboxSource(), "erofs"), TreeExporter(stage.root))
    await store.close()


@pytest.fixture
def bridged(request: pytest.FixtureRequest) -> Iterator[Bridged]:
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("qemu-system-x86_64 is not installed: ./dev setup installs it")
    net = Namespace()
    try:
        net.ip("link", "add", "br0", "type", "bridge")
        net.ip("address", "add", "10.77.0.1/24", "dev", "br0")
        net.ip("link", "set", "br0", "up")
        net.ip("link", "set", "lo", "up")
        stage = Stage.open()
        try:
            asyncio.run(make_images(stage))
            with evidence.kept_of(stage, request.node):
                yield Bridged(stage, net)
        finally:
            assert stage.close() == []
    finally:
        net.close()


def test_a_guest_in_a_bridge_is_asked_updated_rolled_back_mended_and_removed(
    bridged: Bridged,
) -> None:
    net, repository = bridged.net, bridged.stage.repository
    repository.write("web.yaml", WEB)
    repository.write("mute.yaml", manifest("mute"))
    first = bridged.push("first")
    bridged.daemon.start()
    bridged.settled(first, "web", "mute", deadline=ROLL)
    assert net.ask(f"http://{ADDRESS}/") == "first"
    links = net.links()
    assert {links[tap]["master"] for tap in ("t0-web", "t0-mute")} == {"br0"}
    counted = net.python(
        "__import__('reconciler.vmm.tap_traffic').vmm.tap_traffic.traffic(['t0-web']).sent_bytes"
    )
    assert int(counted) > 0

    second = bridged.push("second")
    before = bridged.settled(second, "web", "mute").vms["web"]
    assert net.ask(f"http://{ADDRESS}/") == "second"

    net.ip("link", "set", "t0-web", "nomaster")
    wait_until(lambda: net.links()["t0-web"].get("master") == "br0", 60, "it is plugged in again")
    assert net.ask(f"http://{ADDRESS}/") == "second"
    assert bridged.daemon.fleet().vms["web"].instance == before.instance

    bridged.push("bad", BROKEN)
    bridged.until("it is rolled back", lambda fleet: fleet.vms["web"].rolled_back)
    assert net.ask(f"http://{ADDRESS}/") == "second"

    repository.remove("web.yaml")
    bridged.settled(repository.push("without web"), "mute")
    wait_until(lambda: "t0-web" not in net.links(), 30, "the tap is gone")
    assert net.links()["t0-mute"]["master"] == "br0"
