"""What systemd is told of a guest; `tests/systemd` shows that it obeys."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.model.guest_reports import NetworkTraffic
from reconciler.model.machine import BootDisk, Disk, Launch, Machine, PortForward, Tap, UserNetwork
from reconciler.model.names import VMName
from reconciler.supervisor import locked_exec
from reconciler.supervisor.systemd_bus import traffic
from reconciler.supervisor.systemd_unit import HostPaths, properties, unit_name, user_name
from tests.contract.vmms import a_guest

pytestmark = pytest.mark.shows(fault=78)

STATE = Path("/var/lib/reconciler")
PLACE = HostPaths(STATE, flock="/usr/bin/flock", program="/usr/bin/qemu", kvm_group="kvm")
NETWORK = UserNetwork("52:54:00:00:00:01", (PortForward(8080, 80),))
MOST_USER_NAME = 31


def a_machine() -> tuple[Machine, Launch]:
    return a_guest(STATE / "vms", ("qemu", "-M", "microvm"))


def told(machine: Machine, launch: Launch | None = None) -> dict[str, Any]:
    """By name, without the filters that are told twice."""
    given = properties(machine, launch or a_machine()[1], PLACE)
    return {name: variant.value for name, variant in given if name != "SystemCallFilter"}


def test_the_vmm_is_started_by_the_lock_that_it_keeps() -> None:
    (path, argv, ignored), *others = told(*a_machine())["ExecStart"]
    assert others == []
    assert (path, ignored) == ("/usr/bin/flock", False)
    assert argv == [
        *(
            "flock",
            "--nonblock",
            "--no-fork",
            "--conflict-exit-code",
            "75",
            str(STATE / "vms/web/lock"),
        ),
        *("/usr/bin/qemu", "-M", "microvm"),
    ]


def test_a_runner_gets_the_lock_where_its_script_does_not_reach() -> None:
    machine, launch = a_machine()
    ((path, argv, _),) = told(machine, replace(launch, is_script=True))["ExecStart"]
    assert path == argv[0] == sys.executable
    assert argv[2:] == [
        locked_exec.__file__, str(STATE / "vms/web/lock"), "75", "/usr/bin/qemu", "-M", "microvm",
    ]  # fmt: skip


def test_limits_follow_from_the_machine() -> None:
    machine, _ = a_machine()
    found = told(replace(machine, vcpu=3, memory_mib=1000))
    assert found["MemoryMax"] == (1000 + 256) * 1024 * 1024
    assert found["CPUWeight"] == 300
    assert found["CPUQuotaPerSecUSec"] == 4_000_000
    assert found["TasksMax"] == 67
    assert found["LimitCORE"] == 0


def test_only_a_guest_on_kvm_reaches_a_device() -> None:
    machine, _ = a_machine()
    emulated, real = told(machine), told(replace(machine, accel="kvm"))
    assert emulated["PrivateDevices"]
    assert "DeviceAllow" not in emulated
    assert "SupplementaryGroups" not in emulated
    assert real["DeviceAllow"] == [["/dev/kvm", "rw"]]
    assert real["SupplementaryGroups"] == ["kvm"]
    assert real["DevicePolicy"] == emulated["DevicePolicy"] == "closed"


def test_only_a_guest_with_a_tap_may_open_taps_and_it_sees_the_hosts_networks_by_it_alone() -> None:
    machine, _ = a_machine()
    tapped = replace(machine, taps=(Tap("t0-web", "br0", "02:00:00:00:00:01", 0),))
    found, on_kvm = told(tapped), told(replace(tapped, accel="kvm"))
    assert found["DeviceAllow"] == [["/dev/net/tun", "rw"]]
    assert on_kvm["DeviceAllow"] == [["/dev/kvm", "rw"], ["/dev/net/tun", "rw"]]
    assert "PrivateDevices" not in found  # it would hide the device
    assert found["DevicePolicy"] == "closed"
    assert not found["PrivateNetwork"]
    assert found["RestrictAddressFamilies"] == [True, ["AF_UNIX"]]
    assert found["CapabilityBoundingSet"] == 0


def test_a_guest_without_networks_has_no_network() -> None:
    machine, _ = a_machine()
    assert told(machine)["PrivateNetwork"]
    assert told(machine)["RestrictAddressFamilies"] == [True, ["AF_UNIX"]]
    assert not told(replace(machine, networks=(NETWORK,)))["PrivateNetwork"]


def test_only_a_guest_with_a_low_port_gets_a_capability() -> None:
    machine, _ = a_machine()
    low = UserNetwork(NETWORK.mac, (PortForward(80, 80),))
    ordinary, special = (
        told(replace(machine, networks=(NETWORK,))),
        told(replace(machine, networks=(low,))),
    )
    assert ordinary["CapabilityBoundingSet"] == ordinary["AmbientCapabilities"] == 0
    assert special["CapabilityBoundingSet"] == special["AmbientCapabilities"] == 1 << 10


def test_of_the_state_a_guest_sees_its_folder_and_its_images() -> None:
    machine, _ = a_machine()
    layer = Disk(str(STATE / "layers/1/image"), "layer0", read_only=True)
    kernel = str(STATE / "kernels/2/vmlinuz")
    found = told(replace(machine, layers=(layer,), kernel=kernel, initrd="/boot/initrd"))
    assert found["TemporaryFileSystem"] == [[str(STATE), "ro"]]
    assert [bind[0] for bind in found["BindPaths"]] == [str(STATE / "vms/web")]
    assert [bind[0] for bind in found["BindReadOnlyPaths"]] == [kernel, layer.path]


def test_a_guest_sees_the_disk_that_it_boots_and_cannot_write_to_it() -> None:
    machine, _ = a_machine()
    seed = Disk(str(STATE / "layers/1/image"), "layer0", read_only=True)
    disk = BootDisk(str(STATE / "disks/2/image"), "uefi")
    found = told(replace(machine, layers=(seed,), disk=disk, kernel="", initrd=""))
    assert [bind[0] for bind in found["BindReadOnlyPaths"]] == [disk.path, seed.path]


def test_each_vm_has_a_unit_and_a_user_of_its_own_and_long_names_fit() -> None:
    names = [VMName("web"), VMName("a" * 40), VMName("a" * 39 + "b")]
    assert len({user_name(name) for name in names}) == 3
    assert all(len(user_name(name)) <= MOST_USER_NAME for name in names)
    assert unit_name(names[0]) == "microvm-web.service"


def test_the_second_guest_of_a_vm_has_a_unit_and_a_user_of_its_own() -> None:
    web = VMName("web")
    assert unit_name(web, 2) == "microvm-web.2.service"
    assert user_name(web, 2) != user_name(web)
    assert len(user_name(web, 2)) <= MOST_USER_NAME


def test_who_stops_the_unit_presses_the_power_button_and_the_guest_has_its_time() -> None:
    machine, launch = a_machine()
    pressing = replace(launch, power_button=("/usr/bin/python3", "press.py"))
    found = told(replace(machine, stop_timeout=25.0), pressing)
    # Ignored: a guest that stays is ended all the same, and its unit has not failed by that.
    assert found["ExecStop"] == [["/usr/bin/python3", ["/usr/bin/python3", "press.py"], True]]
    assert found["TimeoutStopUSec"] == 35_000_000


def test_the_daemon_ends_before_guests_and_guests_before_the_network() -> None:
    found = told(*a_machine())
    assert (found["Before"], found["After"]) == (["reconciler.service"], ["network.target"])


COUNTED = {
    "IPIngressBytes": 1000, "IPEgressBytes": 200, "IPIngressPackets": 10, "IPEgressPackets": 4,
}  # fmt: skip


def test_what_a_unit_receives_and_sends_is_counted_where_the_kernel_can() -> None:
    assert told(a_machine()[0])["IPAccounting"]
    assert traffic({**COUNTED, "MainPID": 7}) == NetworkTraffic(1000, 10, 200, 4)


@pytest.mark.parametrize("lacks", COUNTED)
def test_figures_that_systemd_does_not_have_are_none(lacks: str) -> None:
    assert traffic({**COUNTED, lacks: 2**64 - 1}) is None
    assert traffic({name: count for name, count in COUNTED.items() if name != lacks}) is None


def test_the_console_of_a_runner_of_nix_is_what_its_vmm_prints() -> None:
    machine, launch = a_machine()
    quiet, printing = told(machine, launch), told(machine, replace(launch, prints_console=True))
    assert quiet["StandardOutputFileToAppend"].endswith("/web/vmm.log")
    assert printing["StandardOutputFileToAppend"].endswith("/web/console.log")
    assert printing["StandardErrorFileToAppend"].endswith("/web/vmm.log")
    assert {k: v for k, v in quiet.items() if k != "StandardOutputFileToAppend"} == {
        k: v for k, v in printing.items() if k != "StandardOutputFileToAppend"
    }, "its cage is that of every guest"
