"""A VM that hands over, under systemd: its port is held by the front, whatever becomes of the daemon."""

from __future__ import annotations

import pytest

from demo.daemon import free_port
from demo.poller import Poller
from tests.systemd.host import FIRST, HTTPD, Host, forwarded, manifest
from tests.systemd.test_life import assert_caged
from tests.wait import wait_until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(400),
    pytest.mark.usefixtures("peopled"),
]

VM, FRONT = "swift", "reconciler-front.service"
MOST_EXPOSED = 1.5
PATIENCE = 10.0
EVERY = 0.05
"""Seconds between requests: as much as one emulated guest answers while another boots beside it."""


def main_pid(host: Host) -> int:
    return int(host.container.show(FRONT, "MainPID")["MainPID"])


def push(host: Host, page: str) -> str:
    host.repository.write("swift/www/index.html", page)
    return host.repository.push(page.strip())


@pytest.mark.shows(comparison=20)
def test_handovers_lose_no_request_though_the_daemon_is_restarted_and_then_the_vm_goes(
    host: Host,
) -> None:
    assert main_pid(host) == 0, "nobody needed it yet"
    port = free_port()
    update = {"stopTimeout": "10s", "strategy": "handover"}
    text = manifest(VM, VM, "/index.html", port, interfaces=forwarded(port), update=update)
    host.repository.write("swift.yaml", text)
    host.repository.write("swift/etc/rc.local", HTTPD, 0o755)
    host.good = push(host, "zero\n")
    host.settled(FIRST, VM)
    front = main_pid(host)
    assert_caged(host, FRONT, MOST_EXPOSED, "The proxy's sandbox")
    with Poller({VM: port}, interval=EVERY, timeout=PATIENCE) as poller:
        for page in ("one\n", "two\n"):
            host.good = push(host, page)
            host.systemctl("restart", "reconciler.service")
            host.settled(FIRST, VM)
        wait_until(lambda: poller.answers(VM, 0)[-1].text == "two", 30, "the new guest answers")
        assert [one for one in poller.answers(VM, 0) if not one.ok] == []
        assert main_pid(host) == front, "neither a handover nor the daemon touches it"
        host.systemctl("restart", FRONT)
        assert main_pid(host) != front
        assert not any(one.refused for one in poller.answers(VM, 0)), "who connects meanwhile waits"
    _go(host)


def _go(host: Host) -> None:
    """The VM leaves the repository, and with it its port the front."""
    host.leave(VM)
    said = host.systemctl("status", FRONT, check=False).stdout
    assert "routes the ports of 1 VMs" not in said or wait_until(
        lambda: "of 0 VMs" in host.systemctl("status", FRONT, check=False).stdout, 30, "it let go"
    )
