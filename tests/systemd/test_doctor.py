"""`doctor` on a host with the package and one thing wrong, each in mounts of its own."""

from __future__ import annotations

import json

import pytest

from tests.systemd.host import Host

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

Findings = dict[str, tuple[str, str]]


def findings(said: str) -> Findings:
    """Result and remedy of each check."""
    return {one["name"]: (one["result"], one["remedy"]) for one in json.loads(said)["checks"]}


def doctor(host: Host, *wrong: str, user: str = "root") -> Findings:
    """Asked after the mounts `wrong`, which nobody else sees."""
    script = "; ".join(["set -e", *wrong, f"runuser -u {user} -- reconciler doctor -o json"])
    said = host.container.run("unshare", "--mount", "sh", "-c", script, check=False)
    return findings(said.stdout)


def test_a_host_with_the_package_lacks_nothing(host: Host) -> None:
    assert [n for n, (result, _) in doctor(host).items() if result == "failed"] == []


def test_missing_qemu_is_named(host: Host) -> None:
    found = doctor(host, "mount --bind /dev/null /usr/bin/qemu-system-x86_64")
    assert found["qemu-system-x86_64"] == ("failed", "apt-get install qemu-system-x86")


def test_missing_kvm_is_named(host: Host) -> None:
    result, remedy = doctor(host, "mount -t tmpfs tmpfs /dev")["kvm"]
    assert (result, remedy) == ("warning", "modprobe kvm_intel, or kvm_amd")


def test_a_full_disk_is_named(host: Host) -> None:
    found = doctor(host, "mount -t tmpfs -o size=4m tmpfs /var/lib/reconciler")
    assert found["disk"] == ("failed", "du -xhd2 /var/lib/reconciler | sort -h | tail")


def test_a_state_that_cannot_be_written_is_named(host: Host) -> None:
    found = doctor(host, "mount -t tmpfs -o ro,size=4g tmpfs /var/lib/reconciler")
    result, remedy = found["state"]
    assert result == "failed"
    assert remedy == "mount -o remount,rw $(findmnt -no TARGET -T /var/lib/reconciler)"


@pytest.mark.parametrize(
    ("wrong", "remedy"),
    [
        ("uid=65534", "chown -R --from=65534 0 /var/lib/reconciler"),
        ("mode=0500", "chmod u+rwx /var/lib/reconciler"),
    ],
)
def test_a_state_that_the_daemon_may_not_write_is_named(
    host: Host, wrong: str, remedy: str
) -> None:
    found = doctor(host, f"mount -t tmpfs -o size=4g,{wrong} tmpfs /var/lib/reconciler")
    assert found["state"] == ("failed", remedy)


def test_somebody_without_the_right_groups_is_told_which(host: Host) -> None:
    found = doctor(host, user="nobody")
    assert found["daemon"] == ("failed", "usermod -aG reconciler nobody")
    assert found["config"][0] == "failed"
    host.container.run("usermod", "-aG", "reconciler", "nobody")
    assert doctor(host, user="nobody")["daemon"][0] == "ok"
    host.container.run("gpasswd", "-d", "nobody", "reconciler")


@pytest.mark.parametrize(
    ("lost", "name", "remedy"),
    [
        ("/run/systemd", "systemd", 'set supervisor = "local" in the config'),
        ("/run/dbus", "dbus", "apt-get install dbus && systemctl start dbus.socket"),
    ],
)
def test_a_host_without_what_keeps_guests_is_named(
    host: Host, lost: str, name: str, remedy: str
) -> None:
    assert doctor(host, f"mount -t tmpfs tmpfs {lost}")[name] == ("failed", remedy)
