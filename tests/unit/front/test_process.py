"""The front as a process: what it keeps over a restart, and when it ends by itself."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from reconciler.errors import StateDirLocked
from reconciler.host import layout
from reconciler.model.machine import Route, RouteTarget
from reconciler.model.names import InstanceId, VMName
from reconciler.proxy.client import ProxyClient
from reconciler.proxy.control_socket import Control
from reconciler.proxy.routing_table import Keeping, Table
from reconciler.proxy.server import Kept, run
from reconciler.systemd_notify import Service
from tests.eventually import eventually

pytestmark = pytest.mark.shows(fault=64)

VM = VMName("web")


class Manager(Service):
    """As systemd keeps descriptors for the process that comes next."""

    def __init__(self, kept: dict[str, int] | None = None) -> None:
        super().__init__({})
        self.kept = kept if kept is not None else {}
        self._handed = {name: os.dup(fd) for name, fd in self.kept.items()}

    def store(self, name: str, descriptor: int) -> None:
        self.kept[name] = os.dup(descriptor)

    def drop(self, name: str) -> None:
        if name in self.kept:
            os.close(self.kept.pop(name))


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def led(port: int, target: int = 40000) -> RouteTarget:
    return RouteTarget(InstanceId("web-g1-0"), (Route("tcp", "127.0.0.1", port, target),))


async def test_it_ends_by_itself_once_there_is_nothing_to_lead(tmp_path: Path) -> None:
    running = asyncio.create_task(run(tmp_path / "front", Service({}), idle=0.1))
    front = ProxyClient(tmp_path / "front", lambda: None)
    await front.route(VM, led(free_port()))
    assert (await front.look()).targets != {}
    assert not running.done()
    await front.route(VM, None)
    assert (await front.look()).targets == {}
    async with asyncio.timeout(10):
        await running


async def test_there_is_one_a_folder(tmp_path: Path) -> None:
    running = asyncio.create_task(run(tmp_path, Service({}), idle=60.0))
    await eventually(layout.proxy_socket(tmp_path).exists)
    with pytest.raises(StateDirLocked):
        await run(tmp_path, Service({}))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_nobody_else_may_open_its_socket(tmp_path: Path) -> None:
    running = asyncio.create_task(run(tmp_path / "front", Service({}), idle=60.0))
    await eventually(layout.proxy_socket(tmp_path / "front").exists)
    assert layout.proxy_socket(tmp_path / "front").stat().st_mode & 0o777 == 0o600
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_started_anew_by_systemd_it_leads_on_and_nobody_is_refused_meanwhile(
    tmp_path: Path,
) -> None:
    port, manager = free_port(), Manager()
    guest = await asyncio.start_server(_say_hello, "127.0.0.1", 0)
    wanted = led(port, guest.sockets[0].getsockname()[1])
    first = asyncio.create_task(run(tmp_path, manager, idle=60.0))
    front = ProxyClient(tmp_path, lambda: None)
    await front.route(VM, wanted)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)  # nobody runs, and it waits
    second = asyncio.create_task(run(tmp_path, Manager(manager.kept), idle=60.0))
    async with asyncio.timeout(10):
        assert await reader.read() == b"hello"
    writer.close()
    await eventually(layout.proxy_socket(tmp_path).exists)
    await front.route(VM, wanted)
    assert (await front.look()).targets == {VM: wanted}
    await front.route(VM, None)
    assert set(manager.kept) == {"table"}
    await front.close()
    second.cancel()
    guest.close()
    await asyncio.gather(second, return_exceptions=True)
    os.close(manager.kept["table"])


async def _say_hello(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello")
    await writer.drain()
    writer.close()


async def test_a_kept_table_that_cannot_be_read_leads_nothing() -> None:
    manager = Manager()
    kept = Kept(manager)
    os.pwrite(manager.kept["table"], b'{"led": {"web": {"instance": 1', 0)
    assert kept.read() == {}
    kept.close()
    os.close(manager.kept["table"])


@pytest.mark.parametrize(
    "line",
    [
        b"", b"{", b"[]", b"null", b'{"do":"x"}', b'{"do":"lead"}', b'{"do":"lead","vm":1}',
        b'{"do":"lead","vm":"a","instance":"i","routes":[1]}',
        b'{"do":"lead","vm":"a","instance":"i","routes":[["tcp","127.0.0.1",0,1]]}',
        b'{"do":"lead","vm":"a","instance":"i","routes":[["tcp","nowhere",80,1]]}',
        b'{"do":"lead","vm":"a","instance":"i","routes":[["icmp","127.0.0.1",80,1]]}',
        b'{"do":"lead","vm":"a","instance":"i","routes":[["tcp","127.0.0.1",80,99999]]}',
        b'{"do":"lead","vm":"' + b"a" * 200 + b'","instance":"i","routes":[]}',
        b'{"do":"open","vm":"a"}', b"[" * 100_000,
    ],
)  # fmt: skip
async def test_what_is_no_question_is_answered_in_words_and_changes_nothing(line: bytes) -> None:
    table = Table(Keeping(), lambda _name: None)
    assert "error" in Control(table).answer(line)
    assert (table.targets, table.version) == ({}, 0)
