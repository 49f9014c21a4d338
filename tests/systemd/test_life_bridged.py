"""A VM in a bridge of the host, under systemd: set up as docs/operations/networking.md says, in a network of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.systemd.host import CONFIG, FIRST, HTTPD, Host, manifest
from tests.systemd.test_doctor import doctor
from tests.systemd.test_life import MOST_EXPOSED_GUEST, assert_caged
from tests.systemd.test_the_first_hour import blocks
from tests.wait import wait_until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(400),
    pytest.mark.usefixtures("peopled"),
]

VM, UNIT, TAP = "door", "microvm-door.service", "t0-door"
ADDRESS = "10.20.0.5"
CHAPTER = "A bridge for guests"
MOST_EXPOSED = 2.4
DROP_IN = "etc/systemd/system/reconciler.service.d"
ASK = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=15).read().decode())"


@pytest.fixture
def apart(host: Host) -> Iterator[Host]:
    """The host in a network of its own: its bridge is nothing to the machine that tests."""
    config = host.container.root / CONFIG
    before = config.read_text(encoding="utf-8")
    host.apt("install", "--no-install-recommends", "iproute2")
    host.container.power_off()
    host.container.boot("--private-network")
    yield host
    host.container.power_off()
    config.write_text(before, encoding="utf-8")
    shutil.rmtree(host.container.root / DROP_IN)
    host.container.boot()
    host.settled()


def links(host: Host) -> dict[str, dict[str, Any]]:
    said = host.container.run("ip", "-j", "-d", "link").stdout
    return {one["ifname"]: one for one in json.loads(said)}


def ask(host: Host) -> str:
    return host.container.run("python3", "-c", ASK, f"http://{ADDRESS}/").stdout.strip()


def set_up(host: Host) -> None:
    """As the chapter has it; what its `doctor` then names is mended as it says."""
    make, allow = blocks()[CHAPTER]
    host.container.run("sh", "-euc", make)
    host.configure(bridges='bridges = ["br0"]')
    said = host.container.run("sh", "-euc", allow, check=False)
    assert "taps" in said.stdout
    # The device has the mode of the machine that tests, where udev may not have come by.
    result, remedy = doctor(host)["tun"]
    assert (result, remedy) in {("ok", ""), ("failed", "chmod 666 /dev/net/tun")}
    host.container.run("sh", "-c", remedy)
    found = doctor(host)
    assert {found[name][0] for name in ("tun", "taps", "bridge br0")} == {"ok"}


def test_a_guest_in_a_bridge_is_reached_by_its_address_and_its_tap_lives_as_long_as_it(
    apart: Host,
) -> None:
    host = apart
    set_up(host)
    tap = {"type": "tap", "bridge": "br0", "address": f"{ADDRESS}/24", "gateway": "10.20.0.1"}
    host.repository.write("door.yaml", manifest(VM, VM, "/index.html", 80, interfaces=[tap]))
    host.repository.write("door/etc/rc.local", HTTPD, 0o755)
    host.repository.write("door/www/index.html", "come in\n")
    host.good = host.repository.push("a VM in a bridge")
    fleet = host.settled(FIRST, VM)
    assert ask(host) == "come in"
    assert (made := links(host)[TAP])["master"] == "br0"

    shown = host.container.show(UNIT, "DevicePolicy", "DeviceAllow", "CapabilityBoundingSet")
    assert shown == {
        "DevicePolicy": "closed", "DeviceAllow": "/dev/net/tun rw", "CapabilityBoundingSet": "",
    }  # fmt: skip
    assert_caged(host, UNIT, MOST_EXPOSED_GUEST, "A guest's sandbox")
    assert_caged(host, "reconciler.service", MOST_EXPOSED, "The daemon's sandbox")

    host.systemctl("restart", "reconciler.service")
    assert host.settled(FIRST, VM).vms[VM].instance == fleet.vms[VM].instance
    assert links(host)[TAP]["ifindex"] == made["ifindex"]
    assert ask(host) == "come in"

    host.leave(VM)
    wait_until(lambda: TAP not in links(host), 30, "the tap is gone")
    assert "br0" in links(host), "the bridge is the host's"
