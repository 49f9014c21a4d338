"""What passes through the front: every byte, both ends, and no more than it can hold."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from reconciler.model.machine import Route, RouteTarget
from reconciler.model.names import InstanceId, VMName
from reconciler.proxy import tcp_relay as relay
from reconciler.proxy.routing_table import Keeping, Table
from tests.eventually import eventually

VM = VMName("web")
LOOPBACK = "127.0.0.1"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as free:
        free.bind((LOOPBACK, 0))
        return int(free.getsockname()[1])


class Guest:
    """A service at a port of its own; what it heard, it remembers."""

    def __init__(self, name: str, serve: Serve) -> None:
        self.instance = InstanceId(name)
        self.port = 0
        self._serve = serve

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                await self._serve(reader, writer)
            writer.close()

        server = await asyncio.start_server(serve, LOOPBACK, 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()

    def led(self, port: int) -> RouteTarget:
        return RouteTarget(self.instance, (Route("tcp", LOOPBACK, port, self.port),))


def named(name: str) -> Guest:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(f"{name}\n".encode())
        await writer.drain()

    return Guest(name, serve)


@pytest.fixture
async def table() -> AsyncIterator[Table]:
    table = Table(Keeping(), lambda _name: None)
    yield table
    table.close()


async def ask(port: int) -> str:
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    writer.write(b"who\n")
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    return answer.decode().strip()


async def test_new_connections_come_to_the_guest_of_the_moment_and_none_is_refused(
    table: Table,
) -> None:
    port = free_port()
    one, two = named("one"), named("two")
    answers: list[str] = []
    async with one.listening(), two.listening():
        table.route(VM, one.led(port))

        async def mover() -> None:
            for number in range(40):
                seen = len(answers)
                table.route(VM, (two, one)[number % 2].led(port))
                await eventually(lambda seen=seen: len(answers) > seen + 2, 30)  # type: ignore[misc]

        moving = asyncio.create_task(mover())

        async def client() -> None:
            while not moving.done():
                answers.append(await ask(port))

        await asyncio.gather(client(), client(), client(), moving)
    assert set(answers) == {"one", "two"}


async def test_a_connection_that_is_open_stays_with_its_guest_and_is_counted(table: Table) -> None:
    port = free_port()
    one, two = named("one"), named("two")
    async with one.listening(), two.listening():
        table.route(VM, one.led(port))
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        await eventually(lambda: table.open(VM, one.instance) == 1)
        table.route(VM, two.led(port))
        assert await ask(port) == "two"
        writer.write(b"who\n")
        assert await reader.read() == b"one\n"
        writer.close()
        await eventually(lambda: table.open(VM, one.instance) == 0)
        await eventually(lambda: table.open(VM, two.instance) == 0)


async def test_each_half_of_a_connection_is_closed_by_itself(table: Table) -> None:
    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard = await reader.read()  # to the end of what the client says
        writer.write(str(len(heard)).encode())
        await writer.drain()

    guest, port = Guest("counts", count), free_port()
    async with guest.listening():
        table.route(VM, guest.led(port))
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        writer.write(bytes(3_000_000))
        writer.write_eof()
        async with asyncio.timeout(20):
            assert await reader.read() == b"3000000"
        writer.close()


async def test_a_client_that_does_not_read_slows_its_guest_and_fills_no_memory(
    table: Table,
) -> None:
    sent, stalled = 0, asyncio.Event()

    async def pour(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while True:
            writer.write(bytes(65536))
            try:
                async with asyncio.timeout(0.5):
                    await writer.drain()
            except TimeoutError:
                stalled.set()
                return
            sent += 65536

    guest, port = Guest("pours", pour), free_port()
    async with guest.listening():
        table.route(VM, guest.led(port))
        with socket.create_connection((LOOPBACK, port)) as client:
            await eventually(stalled.is_set)
            assert 0 < sent < 32 * 1024 * 1024
            assert client.recv(65536) == bytes(65536)


async def test_a_guest_that_breaks_off_is_told_as_a_reset_and_not_as_the_end(table: Table) -> None:
    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"half of an ans")
        await writer.drain()
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, relay.RESET)
        writer.transport.abort()

    guest, port = Guest("breaks", break_off), free_port()
    async with guest.listening():
        table.route(VM, guest.led(port))
        with pytest.raises(ConnectionResetError):
            await ask(port)


async def test_a_guest_that_does_not_listen_is_a_reset_and_leaves_nothing(table: Table) -> None:
    port = free_port()
    nobody = RouteTarget(InstanceId("nobody"), (Route("tcp", LOOPBACK, port, free_port()),))
    table.route(VM, nobody)
    with pytest.raises(ConnectionResetError):
        await ask(port)
    await eventually(lambda: table.open(VM, nobody.instance) == 0)


async def test_more_connections_than_are_allowed_wait_and_are_served(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "MOST_OPEN", 3)
    most = 0

    guest, port = named("one"), free_port()
    async with guest.listening():
        table.route(VM, guest.led(port))

        async def look(tasks: list[asyncio.Task[str]]) -> None:
            nonlocal most
            while not all(task.done() for task in tasks):
                most = max(most, table.open(VM, guest.instance))
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            asking = [group.create_task(ask(port)) for _ in range(40)]
            group.create_task(look(asking))
        assert {task.result() for task in asking} == {"one"}
    assert most == 3


async def test_a_port_that_is_let_go_is_free_at_once(table: Table) -> None:
    guest, port = named("one"), free_port()
    async with guest.listening():
        table.route(VM, guest.led(port))
        assert await ask(port) == "one"
        table.route(VM, None)
        await eventually(lambda: table.idle)
        with socket.create_server((LOOPBACK, port)):
            pass


class Echo(asyncio.DatagramProtocol):
    """Answers each datagram with its name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        assert self._transport is not None
        self._transport.sendto(self._name.encode() + b":" + data, addr)


async def test_datagrams_of_many_clients_find_their_answers_and_their_new_guest(
    table: Table,
) -> None:
    loop, port = asyncio.get_running_loop(), free_port(socket.SOCK_DGRAM)
    made = [
        await loop.create_datagram_endpoint(lambda n=n: Echo(n), (LOOPBACK, 0))  # type: ignore[misc]
        for n in ("one", "two")
    ]
    own = [transport.get_extra_info("sockname")[1] for transport, _ in made]
    clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(20)]
    try:
        for name, target in zip(("one", "two"), own, strict=True):
            table.route(VM, RouteTarget(InstanceId(name), (Route("udp", LOOPBACK, port, target),)))
            for number, client in enumerate(clients):
                client.settimeout(0)
                client.sendto(b"%d" % number, (LOOPBACK, port))
            for number, client in enumerate(clients):
                async with asyncio.timeout(10):
                    answer = await loop.sock_recv(client, 100)
                assert answer == f"{name}:{number}".encode()
    finally:
        for client in clients:
            client.close()
        for transport, _ in made:
            transport.close()


async def test_clients_that_were_silent_the_longest_are_forgotten_first(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.proxy.udp_relay.MOST_SESSIONS", 4)
    loop, port = asyncio.get_running_loop(), free_port(socket.SOCK_DGRAM)
    transport, _ = await loop.create_datagram_endpoint(lambda: Echo("one"), (LOOPBACK, 0))
    target = transport.get_extra_info("sockname")[1]
    table.route(VM, RouteTarget(InstanceId("one"), (Route("udp", LOOPBACK, port, target),)))
    try:
        for number in range(20):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.settimeout(0)
                client.sendto(b"%d" % number, (LOOPBACK, port))
                async with asyncio.timeout(10):
                    assert await loop.sock_recv(client, 100) == f"one:{number}".encode()
        listener = next(iter(table._held[VM].values()))
        assert len(listener._sessions) <= 4  # type: ignore[union-attr]
    finally:
        transport.close()
