"""The end of a host's life: the package removed, come back, and purged, with a person at a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.systemd.host import NAMES, Host

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(400),
    pytest.mark.usefixtures("peopled"),
    pytest.mark.shows(fault=77),
]

QUESTION = "Remove all microVMs of this host, with their volumes? [yes/no] "


def test_removal_keeps_guests_and_data(host: Host) -> None:
    boots = host.boot_ids()
    said = host.apt("remove", "reconciler")
    assert "guests keep running" in said
    assert host.boot_ids() == boots
    assert (host.container.root / "var/lib/reconciler/ledger.db").exists()
    assert (host.container.root / "etc/reconciler/config.toml").exists()


def test_a_purge_that_nobody_agreed_to_keeps_data(host: Host) -> None:
    said = host.apt("purge", "reconciler")
    assert "/var/lib/reconciler is kept" in said
    assert (host.container.root / "var/lib/reconciler/vms/left/volumes/data.raw").exists()
    assert not (host.container.root / "etc/reconciler/config.toml").exists()


def come_back(host: Host, package: Path) -> None:
    host.apt("install", "--no-install-recommends", f"/srv/{package.name}")
    host.until("adopted", lambda fleet: set(fleet.pids()) == set(NAMES))
    host.systemctl("is-active", "reconciler-front.socket")
    said = host.container.run("reconciler", "doctor", "-o", "json", check=False).stdout
    assert "it answers on /run/reconciler-front/front.sock" in said, said


def purge(host: Host, answer: str) -> str:
    """As a person does it at a terminal; what is on the screen."""
    return host.container.converse(
        *("env", "DEBIAN_FRONTEND=readline", "apt-get", "purge", "reconciler"),
        answers=[("Do you want to continue? [Y/n] ", "y"), (QUESTION, answer)],
    )


@pytest.mark.shows(fault=18)
@pytest.mark.shows(fault=19)
def test_a_package_that_comes_back_adopts_what_runs_and_a_purge_asks_a_person_what_to_keep(
    host: Host, package: Path
) -> None:
    boots = host.boot_ids()
    come_back(host, package)
    screen = purge(host, "no")
    before, question = screen.split(QUESTION)[0], screen.replace("\n", " ")
    assert "Configuring reconciler" in before
    assert "/var/lib/reconciler holds the disks of its microVMs" in question
    assert "If you agree, all guests are stopped and all of it is removed." in question
    assert "If you refuse, guests keep running" in question
    assert "/var/lib/reconciler is kept" in screen
    assert host.boot_ids() == boots
    assert (host.container.root / "var/lib/reconciler/vms/left/volumes/data.raw").exists()


def test_a_purge_that_a_person_agrees_to_removes_all(host: Host, package: Path) -> None:
    come_back(host, package)
    purge(host, "yes")
    assert not (host.container.root / "var/lib/reconciler").exists()
    assert not (host.container.root / "etc/reconciler").exists()
    left = host.systemctl("list-units", "--plain", "--no-legend", "microvm-*.service").stdout
    assert left == ""
