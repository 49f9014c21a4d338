"""Checks that are bound to an interface ask nobody elsewhere, whatever address they name."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from reconciler.model.checks import HttpCheck, TcpCheck
from reconciler.model.health import ProbeResult
from reconciler.model.names import InstanceId
from reconciler.probe import http, tcp
from reconciler.probe.tcp import open_socket
from tests.contract.netns import leave, needs_the_kernel

pytestmark = pytest.mark.shows(fault=44)

ELSEWHERE, PORT = "192.168.77.5", 8088
"""A service of the host, or of the office's network: anything but a guest on the bridge."""
ON_THE_BRIDGE = "10.20.0.1"


@pytest.fixture
def apart() -> Iterator[ThreadPoolExecutor]:
    """A thread in a network of its own: a bridge, and an address that is on another interface."""
    needs_the_kernel()
    with ThreadPoolExecutor(1, initializer=leave) as thread:
        thread.submit(set_up).result(10)
        yield thread


def set_up() -> None:
    from pyroute2 import IPRoute  # type: ignore[import-untyped]  # noqa: PLC0415 - slow to load

    with IPRoute() as net:
        net.link("add", ifname="br0", kind="bridge")
        for name, address, length in (("lo", ELSEWHERE, 32), ("br0", ON_THE_BRIDGE, 24)):
            index = net.link_lookup(ifname=name)[0]
            net.link("set", index=index, state="up")
            net.addr("add", index=index, address=address, prefixlen=length)


async def asked(check: HttpCheck | TcpCheck) -> tuple[ProbeResult, int]:
    """The answer of a check, and how many connections the service elsewhere had."""
    heard = 0

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        heard += 1
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nsecret")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, ELSEWHERE, PORT):
        if isinstance(check, TcpCheck):
            return (await tcp.ask(check))[0], heard
        session = http.open_session(check.device)
        try:
            return (await http.ask(check, session, InstanceId("web-g1-0")))[0], heard
        finally:
            await session.close()


@pytest.mark.parametrize("kind", [HttpCheck, TcpCheck])
def test_a_service_elsewhere_hears_nothing_of_a_check_that_is_bound_to_a_bridge(
    kind: type[HttpCheck | TcpCheck], apart: ThreadPoolExecutor
) -> None:
    free = kind(port=PORT, host=ELSEWHERE, timeout=0.5)
    assert apart.submit(lambda: asyncio.run(asked(free))).result(30) == ("success", 1)
    bound = kind(port=PORT, host=ELSEWHERE, timeout=0.5, device="br0")
    result, heard = apart.submit(lambda: asyncio.run(asked(bound))).result(30)
    assert (result != "success", heard) == (True, 0)


def test_a_bridge_that_is_gone_is_no_fault_of_the_guest() -> None:
    with pytest.raises(OSError, match="No such device") as failure:
        open_socket(2, 1, 0, "br-gone")
    assert failure.value.errno == errno.ENODEV
    check = TcpCheck(port=PORT, host=ON_THE_BRIDGE, device="br-gone")
    assert asyncio.run(tcp.ask(check))[0] == "error"
