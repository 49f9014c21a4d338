"""What the host says of itself."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from reconciler.clock import SystemClock
from reconciler.errors import DriverError
from reconciler.hypervisors import QemuConfig
from reconciler.model.machine import ANY_ADDRESS, HostPort, Protocol
from reconciler.vmm.host_facts import LocalHost, memory_available_mib, tsc_khz
from reconciler.vmm.port_availability import (
    ephemeral_ports,
    listening_ports,
    refused_ports,
    reserved_ports,
)
from reconciler.vmm.qemu.accel import choose_accel
from reconciler.vmm.qemu.driver import QemuDriver
from reconciler.vmm.registry import DriverRegistry

pytestmark = pytest.mark.shows(fault=74)
EMULATED = DriverRegistry({"qemu": QemuDriver(QemuConfig(accel="tcg"))})
TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0
   1: 0100007F:1F91 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0
   2: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3 1 0
"""
TABLE6 = """\
  sl  local_address                         remote_address                        st
   0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 0 0
   1: 0000000000000000FFFF00000100000A:0051 00000000000000000000000000000000:0000 0A 0 0
   2: 00000000000000000000000001000000:0052 00000000000000000000000000000000:0000 0A 0 0
"""


def a_program(path: Path, body: str) -> str:
    """Stands in for QEMU; it notes each call beside itself."""
    path.write_text(f'#!/bin/sh\necho "$*" >> "$0.calls"\n{body}\n')
    path.chmod(0o755)
    return str(path)


def write(path: Path, text: str) -> None:
    path.write_text(text)


def remove(path: Path) -> None:
    path.unlink()


def calls(program: str) -> int:
    noted = Path(f"{program}.calls")
    return len(noted.read_text().splitlines()) if noted.exists() else 0


def test_only_listeners_count_as_listening(tmp_path: Path) -> None:
    (tmp_path / "tcp").write_text(TABLE)
    (tmp_path / "tcp6").write_text(TABLE6)
    assert listening_ports(tmp_path / name for name in ("tcp", "tcp6", "absent")) == {
        HostPort("127.0.0.1", 8080), HostPort(ANY_ADDRESS, 22), HostPort(ANY_ADDRESS, 80),
        HostPort("10.0.0.1", 81),
    }  # fmt: skip


def test_memory_is_what_the_kernel_calls_available(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 99 kB\nMemAvailable:   2048000 kB\n")
    assert memory_available_mib(tmp_path / "meminfo") == 2000


@pytest.mark.parametrize(
    ("text", "khz"),
    [
        ("processor : 0\nbogomips\t: 5192.19\n\nprocessor : 1\nbogomips : 1.0\n", 2_596_095),
        ("bogomips\t: nonsense\n", None),
        ("processor : 0\n", None),
    ],
)
def test_the_tsc_is_half_of_bogomips(tmp_path: Path, text: str, khz: int | None) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert tsc_khz(tmp_path / "cpuinfo") == khz
    assert tsc_khz(tmp_path / "absent") is None


async def test_the_host_of_this_test_says_what_it_has(tmp_path: Path) -> None:
    host = LocalHost(tmp_path, EMULATED, SystemClock())
    with socket.create_server(("127.0.0.1", 0)) as server:
        facts = await host.facts()
        port = server.getsockname()[1]
    assert facts.accel_of("qemu") == "tcg"
    assert facts.memory_available_mib > 0
    assert facts.disk_free_mib > 0
    assert HostPort("127.0.0.1", port) in facts.listening
    assert HostPort("127.0.0.1", port) not in (await host.facts()).listening


async def test_a_state_directory_that_is_gone_is_an_error(tmp_path: Path) -> None:
    host = LocalHost(tmp_path / "gone", EMULATED, SystemClock())
    with pytest.raises(DriverError):
        await host.facts()


async def test_what_the_config_names_is_not_doubted(tmp_path: Path) -> None:
    config = QemuConfig(binary=a_program(tmp_path / "qemu", "exit 1"), accel="kvm")
    assert await choose_accel(config, "boot-1", tmp_path / "accel.json") == "kvm"
    assert calls(config.binary) == 0


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host that has the device file."""
    path = tmp_path / "kvm"
    path.touch()
    monkeypatch.setattr("reconciler.vmm.qemu.accel.KVM", path)
    return path


@pytest.mark.usefixtures("device")
async def test_kvm_is_chosen_when_the_boot_sector_has_run_to_its_end(tmp_path: Path) -> None:
    config = QemuConfig(binary=a_program(tmp_path / "qemu", "exit 85"))
    assert await choose_accel(config, "boot-1", tmp_path / "accel.json") == "kvm"


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("body", ["exit 0", "exit 1", "kill -ABRT $$", "exec sleep 60"])
async def test_a_kvm_that_fails_or_hangs_is_not_used(tmp_path: Path, body: str) -> None:
    config = QemuConfig(binary=a_program(tmp_path / "qemu", body))
    assert await choose_accel(config, "boot-1", tmp_path / "accel.json") == "tcg"


@pytest.mark.usefixtures("device")
async def test_the_proof_is_remembered_until_the_next_boot_or_another_program(
    tmp_path: Path,
) -> None:
    memory = tmp_path / "accel.json"
    config = QemuConfig(binary=a_program(tmp_path / "qemu", "exit 1"))
    for _ in range(3):
        assert await choose_accel(config, "boot-1", memory) == "tcg"
    assert calls(config.binary) == 1
    await choose_accel(config, "boot-2", memory)
    assert calls(config.binary) == 2
    write(memory, "not a proof")
    await choose_accel(config, "boot-2", memory)
    assert calls(config.binary) == 3
    other = QemuConfig(binary=a_program(tmp_path / "other", "exit 85"))
    assert await choose_accel(other, "boot-2", memory) == "kvm"


async def test_a_host_without_the_device_starts_nothing_to_find_out(
    tmp_path: Path, device: Path
) -> None:
    remove(device)
    config = QemuConfig(binary=a_program(tmp_path / "qemu", "exit 85"))
    assert await choose_accel(config, "boot-1", tmp_path / "accel.json") == "tcg"
    assert calls(config.binary) == 0


@pytest.mark.parametrize("kind", ["connected", "bound", "listening", "datagrams"])
async def test_a_port_that_cannot_be_bound_is_refused_whoever_has_it(
    tmp_path: Path, kind: str
) -> None:
    protocol: Protocol = "udp" if kind == "datagrams" else "tcp"
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(
            type=socket.SOCK_DGRAM if kind == "datagrams" else socket.SOCK_STREAM
        ) as taker,
    ):
        taker.bind(("127.0.0.1", 0))
        if kind == "connected":
            taker.connect(server.getsockname())
        elif kind == "listening":
            taker.listen()
        there = HostPort("127.0.0.1", taker.getsockname()[1], protocol)
        everywhere = there._replace(address=ANY_ADDRESS)
        host = LocalHost(tmp_path, EMULATED, SystemClock())
        facts = await host.facts(frozenset({there, everywhere}))
        assert facts.refused.keys() == {there, everywhere}
        assert f"sport = :{there.port}" in facts.refused[there]
    assert (await host.facts(frozenset({there}))).refused == {}


async def test_connections_that_just_ended_hold_no_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        port = HostPort("127.0.0.1", server.getsockname()[1])
        accepted.close()  # first, so that TIME_WAIT is at the server's end
        client.close()
    host = LocalHost(tmp_path, EMULATED, SystemClock())
    assert (await host.facts(frozenset({port}))).refused == {}


def test_an_address_that_this_host_lacks_is_said_to_be_lacking() -> None:
    port = HostPort("192.0.2.1", 8080)
    assert refused_ports([port]) == {port: "this host has no address 192.0.2.1"}


def test_ports_of_outgoing_connections_are_what_the_kernel_says(tmp_path: Path) -> None:
    (tmp_path / "range").write_text("32768\t60999\n")
    (tmp_path / "reserved").write_text("8080,40000-40002\n")
    assert ephemeral_ports(tmp_path / "range") == range(32768, 61000)
    assert reserved_ports(tmp_path / "reserved") == {8080, 40000, 40001, 40002}
    assert ephemeral_ports(tmp_path / "absent") == range(0)
    assert reserved_ports(tmp_path / "absent") == frozenset()
