"""Forwards, as QEMU's monitor tells and moves them, with monitors that fail in the middle."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import DriverError
from reconciler.model.machine import GuestEndpoint, PortForward, Route, UserNetwork
from reconciler.model.names import GenerationNumber, InstanceId
from reconciler.vmm.qemu.forwards import ForwardRow, open_ports, parse
from tests.unit.vmm.test_qmp import negotiate, peer, send

WEB = PortForward(8080, 80)
DNS = PortForward(8053, 53, "udp", "0.0.0.0")  # noqa: S104

TABLE = """\
Hub -1 (net0):\r
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r
  TCP[SYN_SENT]      14       127.0.0.1  8080       10.0.2.15    80     0     0\r
  TCP[HOST_FORWARD]  12       127.0.0.1  8080       10.0.2.15    80     0     0\r
Hub -1 (net1):\r
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r
  UDP[HOST_FORWARD]  13               *  8053       10.0.2.15    53     0     0\r
  UDP[236 sec]       15       10.0.2.15 40000         8.8.8.8    53     0     0\r
"""


def test_the_table_is_read_as_qemu_7_writes_it() -> None:
    assert parse(TABLE) == (
        ForwardRow(0, "SYN_SENT", WEB), ForwardRow(0, "HOST_FORWARD", WEB), ForwardRow(1, "HOST_FORWARD", DNS),
    )  # fmt: skip


@pytest.mark.parametrize("text", ["", "nothing\n\0", "TCP[HOST_FORWARD] x y z\n" * 1000])
def test_a_table_that_is_none_has_no_rows(text: str) -> None:
    assert parse(text) == ()


class Vmm:
    """A monitor that keeps forwards; `refuses` are lines that it answers with an error."""

    def __init__(self, folder: Path, host: list[Vmm], *forwards: tuple[int, PortForward]) -> None:
        self.folder = folder
        self.host = host
        """All VMMs of this host: a port is had by one of them only."""
        host.append(self)
        self.forwards = list(forwards)
        self.refuses: tuple[str, ...] = ()
        self.hangs_up_at = ""
        self.silent_at = ""
        self.heard: list[str] = []
        self.next_port = 40000

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        async with peer(self.folder, self._serve):
            yield

    def seat(self, *networks: tuple[PortForward, ...]) -> GuestEndpoint:
        nets = tuple(UserNetwork("52:54:00:00:00:01", forwards) for forwards in networks)
        return GuestEndpoint(
            InstanceId("i"), GenerationNumber(1), str(self.folder), nets, hypervisor="qemu"
        )

    async def _serve(self, reader: Any, writer: Any) -> None:
        await negotiate(reader, writer)
        text, decoder = "", json.JSONDecoder()
        while chunk := await reader.read(4096):
            text += chunk.decode()
            while text.strip():
                try:
                    request, end = decoder.raw_decode(text.lstrip())
                except ValueError:
                    break  # the rest of it is still to come
                text = text.lstrip()[end:]
                line = request["arguments"]["command-line"]
                self.heard.append(line)
                if self.hangs_up_at and line.startswith(self.hangs_up_at):
                    return
                if not self.silent_at or not line.startswith(self.silent_at):
                    send(writer, {"return": self._answer(line), "id": request["id"]})

    def _answer(self, line: str) -> str:
        if any(line.startswith(start) for start in self.refuses):
            return f"Could not set up host forwarding rule '{line}'\r\n"
        verb, *rest = line.split()
        if verb == "info":
            return self._table()
        net, place = int(rest[0].removeprefix("net")), rest[1]
        protocol, address, tail = place.split(":", 2)
        host, _, guest = tail.partition("-:")
        if verb == "hostfwd_add":
            if host == "0":
                self.next_port += 1
                host = str(self.next_port)
            forward = PortForward(
                int(host), int(guest), "udp" if protocol == "udp" else "tcp", address
            )
            if any(f.host == forward.host for vmm in self.host for _, f in vmm.forwards):
                return f"Could not set up host forwarding rule '{line}'\r\n"
            self.forwards.append((net, forward))
            return ""
        self.forwards = [
            (n, f)
            for n, f in self.forwards
            if (n, f.protocol, f.address, f.host) != (net, protocol, address, int(host))
        ]
        return f"host forwarding rule for {place} removed\r\n"

    def _table(self) -> str:
        text = ""
        for net in sorted({n for n, _ in self.forwards} | {0}):
            text += f"Hub -1 (net{net}):\r\n"
            for n, f in self.forwards:
                if n == net:
                    at = "*" if f.address == "0.0.0.0" else f.address  # noqa: S104
                    kind = f"{f.protocol.upper()}[HOST_FORWARD]"
                    text += f"  {kind}  9  {at} {f.host}  10.0.2.15 {f.guest}  0  0\r\n"
        return text


@pytest.fixture
def vmm(tmp_path: Path) -> Vmm:
    return Vmm(tmp_path / "vmm", [])


NETWORKS = ((WEB,), (DNS,))
OWN = [(0, PortForward(40001, 80)), (1, PortForward(40002, 53, "udp"))]
ROUTES = (Route("tcp", "127.0.0.1", 8080, 40001), Route("udp", DNS.address, 8053, 40002))


async def test_a_guest_gets_ports_of_the_kernels_choice_for_both_protocols(vmm: Vmm) -> None:
    async with vmm.listening():
        assert await open_ports(vmm.seat(*NETWORKS)) == ROUTES
    assert vmm.forwards == OWN


async def test_a_guest_that_has_them_is_asked_again_without_a_change(vmm: Vmm) -> None:
    async with vmm.listening():
        first = await open_ports(vmm.seat(*NETWORKS))
        assert await open_ports(vmm.seat(*NETWORKS)) == first
    assert vmm.forwards == OWN


async def test_ports_of_its_manifest_that_it_has_itself_are_given_up(vmm: Vmm) -> None:
    vmm.forwards = [(0, WEB), (1, DNS)]
    async with vmm.listening():
        assert await open_ports(vmm.seat(*NETWORKS)) == ROUTES
    assert vmm.forwards == OWN


async def test_two_ports_of_one_service_do_not_stand_in_for_each_other(vmm: Vmm) -> None:
    both = (WEB, PortForward(8081, 80))
    vmm.forwards = [(0, forward) for forward in both]
    async with vmm.listening():
        routes = await open_ports(vmm.seat(both))
    assert [(route.port, route.target) for route in routes] == [(8080, 40001), (8081, 40001)]
    assert vmm.forwards == [(0, PortForward(40001, 80))]


async def test_a_guest_that_died_in_the_middle_of_it_is_carried_on_with(vmm: Vmm) -> None:
    vmm.forwards = [(0, PortForward(40001, 80)), (1, DNS)]
    vmm.next_port = 40001
    async with vmm.listening():
        assert await open_ports(vmm.seat(*NETWORKS)) == ROUTES


async def test_a_port_that_cannot_be_opened_is_told_and_nothing_is_given_up(vmm: Vmm) -> None:
    vmm.forwards, vmm.refuses = [(0, WEB)], ("hostfwd_add",)
    async with vmm.listening():
        with pytest.raises(DriverError) as caught:
            await open_ports(vmm.seat((WEB,)))
    assert caught.value.kind == "port"
    assert vmm.forwards == [(0, WEB)]


async def test_a_port_that_is_not_given_up_is_told(vmm: Vmm) -> None:
    vmm.forwards, vmm.refuses = [(0, WEB)], ("hostfwd_remove",)
    async with vmm.listening():
        with pytest.raises(DriverError, match="8080"):
            await open_ports(vmm.seat((WEB,)))


async def test_a_guest_that_hangs_up_or_falls_silent_costs_its_deadline(
    vmm: Vmm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.vmm.qemu.forwards.DEADLINE", 0.5)
    vmm.silent_at = "hostfwd_add"
    async with vmm.listening():
        with pytest.raises(DriverError) as caught:
            await open_ports(vmm.seat((WEB,)))
        vmm.silent_at, vmm.hangs_up_at = "", "hostfwd_add"
        with pytest.raises(DriverError):
            await open_ports(vmm.seat((WEB,)))
    assert caught.value.kind == "timeout"
