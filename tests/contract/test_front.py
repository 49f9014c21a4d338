"""What the engine relies on in a front: the fake one, and a real process with real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reconciler.engine import guest_interfaces as ports
from reconciler.errors import ProxyError
from reconciler.host import layout
from reconciler.model.machine import Route, RouteTarget
from reconciler.model.names import InstanceId, VMName
from reconciler.proxy.client import ProxyClient
from reconciler.proxy.launch import Starter
from tests.eventually import eventually
from tests.fakes import FakeClock, FakeFront, Faults

pytestmark = pytest.mark.shows(fault=64)

WEB, DB = VMName("web"), VMName("db")


class Host:
    """A front, and somebody else on the host who takes ports."""

    def __init__(self, front: ports.PortProxy) -> None:
        self.front = front
        self.woken = 0
        self._stranger: socket.socket | None = None

    def wake(self) -> None:
        self.woken += 1

    def port(self) -> int:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return int(free.getsockname()[1])

    def take(self, port: int) -> None:
        if isinstance(self.front, FakeFront):
            self.front.strangers.add(port)
        else:
            self._stranger = socket.create_server(("127.0.0.1", port))

    def leave(self) -> None:
        if isinstance(self.front, FakeFront):
            self.front.strangers.clear()
        elif self._stranger is not None:
            self._stranger.close()

    async def kill(self) -> None:
        if isinstance(self.front, FakeFront):
            self.front.die()

    async def close(self) -> None:
        self.leave()


class RealHost(Host):
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._starter = Starter(folder)
        super().__init__(ProxyClient(folder, self.wake, self._starter))

    async def kill(self) -> None:
        pid = int(layout.proxy_lock(self._folder).read_text())
        woken = self.woken
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: self.woken > woken)

    async def close(self) -> None:
        self.leave()
        if isinstance(self.front, ProxyClient):
            await self.front.close()
        child = self._starter._child
        if child is not None:
            child.kill()
            child.wait(10)


@pytest.fixture(params=["fake", "real"])
async def host(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Host]:
    clock = FakeClock()
    fake = request.param == "fake"
    host = Host(FakeFront(clock, Faults(clock))) if fake else RealHost(tmp_path / "front")
    try:
        yield host
    finally:
        await host.close()


def led(number: int, *ports: int) -> RouteTarget:
    routes = tuple(Route("tcp", "127.0.0.1", port, 50000 + number) for port in ports)
    return RouteTarget(InstanceId(f"web-g{number}-0"), routes)


async def table(host: Host) -> dict[VMName, RouteTarget]:
    found = await host.front.look()
    assert found.error == ""
    return dict(found.targets)


async def test_a_host_where_nothing_is_led_has_an_empty_table(host: Host) -> None:
    assert await table(host) == {}
    await host.front.route(WEB, None)
    assert await table(host) == {}


async def test_what_was_led_is_found_and_led_elsewhere_and_let_go(host: Host) -> None:
    ports = (host.port(), host.port())
    for wanted in (led(1, *ports), led(2, *ports), led(3, ports[0])):
        await host.front.route(WEB, wanted)
        await host.front.route(WEB, wanted)
        assert await table(host) == {WEB: wanted}
    await host.front.route(WEB, None)
    assert await table(host) == {}


async def test_no_routes_are_as_nothing_to_lead(host: Host) -> None:
    await host.front.route(WEB, led(1, host.port()))
    await host.front.route(WEB, led(2))
    assert await table(host) == {}


async def test_a_port_that_somebody_has_changes_nothing_and_is_told(host: Host) -> None:
    mine, taken = host.port(), host.port()
    await host.front.route(WEB, led(1, mine))
    host.take(taken)
    with pytest.raises(ProxyError, match=str(taken)) as caught:
        await host.front.route(WEB, led(2, mine, host.port(), taken))
    assert caught.value.kind == "port"
    assert await table(host) == {WEB: led(1, mine)}
    host.leave()
    await host.front.route(WEB, led(2, mine, taken))
    assert await table(host) == {WEB: led(2, mine, taken)}


async def test_a_port_of_another_vm_is_taken_too(host: Host) -> None:
    port = host.port()
    await host.front.route(WEB, led(1, port))
    with pytest.raises(ProxyError) as caught:
        await host.front.route(DB, led(2, port))
    assert caught.value.kind == "port"
    await host.front.route(WEB, None)
    await host.front.route(DB, led(2, port))
    assert set(await table(host)) == {DB}


async def test_one_that_died_leads_nothing_and_is_started_again(host: Host) -> None:
    port = host.port()
    await host.front.route(WEB, led(1, port))
    assert await table(host) == {WEB: led(1, port)}
    await host.kill()
    assert await table(host) == {}
    await host.front.route(WEB, led(1, port))
    assert await table(host) == {WEB: led(1, port)}


async def test_nobody_is_waited_for_at_a_guest_without_connections(host: Host) -> None:
    await host.front.route(WEB, led(1, host.port()))
    async with asyncio.timeout(5):
        await host.front.drained(WEB, InstanceId("web-g1-0"), 60.0)
        await host.front.drained(WEB, None, 60.0)
        await host.front.drained(VMName("nobody"), InstanceId("x"), 60.0)


async def test_many_are_led_at_once(host: Host) -> None:
    ports = [host.port() for _ in range(12)]
    names = [VMName(f"vm-{n}") for n in range(12)]
    await asyncio.gather(
        *(host.front.route(n, led(1, p)) for n, p in zip(names, ports, strict=True))
    )
    assert set(await table(host)) == set(names)


async def test_it_outlives_who_started_it_and_is_found_again(tmp_path: Path) -> None:
    host = RealHost(tmp_path / "front")
    port = host.port()
    try:
        await host.front.route(WEB, led(1, port))
        second = ProxyClient(tmp_path / "front", lambda: None, None)
        with contextlib.suppress(AttributeError):
            await host.front.close()  # type: ignore[attr-defined]
        assert dict((await second.look()).targets) == {WEB: led(1, port)}
        await second.close()
    finally:
        await host.close()


async def test_one_that_hangs_is_told_in_time_and_passes_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.proxy.client.LOOK_DEADLINE", 0.2)
    host = RealHost(tmp_path / "front")
    try:
        await host.front.route(WEB, led(1, host.port()))
        await host.front.look()
        pid = int(layout.proxy_lock(tmp_path / "front").read_text())
        os.kill(pid, signal.SIGSTOP)
        first, second = await host.front.look(), await host.front.look()
        assert "does not answer" in first.error
        assert "does not answer" in second.error
        os.kill(pid, signal.SIGCONT)
    finally:
        await host.close()


async def test_one_that_is_asked_whether_it_can_be_reached_is_started(host: Host) -> None:
    await host.front.reach()
    assert await table(host) == {}


async def test_one_whose_socket_nobody_holds_cannot_be_reached_and_that_is_known_at_once(
    tmp_path: Path,
) -> None:
    """As where systemd is to start it, and its socket unit is dead."""
    front = ProxyClient(tmp_path, lambda: None)
    assert "systemctl restart reconciler-front.socket" in (await front.look()).error
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(layout.proxy_socket(tmp_path)))  # and it was closed, as by a crash
    assert (await front.look()).error == "", "what nobody asked is not known"
    await front.close()
