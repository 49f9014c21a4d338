"""The tcp check: who listens, who refuses, and who is not there at all."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct

import pytest

from reconciler.model.checks import TcpCheck
from reconciler.probe import tcp
from reconciler.probe.asker import is_ours
from tests.unit.probe import servers
from tests.unit.probe.servers import serving


async def speaks_first(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mail ready\r\n")
    await writer.drain()


async def closes_at_once(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def test_a_silent_server_that_hears_us_hang_up_listens() -> None:
    async with serving(servers.until_the_client_closes) as port:
        answer = await tcp.ask(TcpCheck(port))
    assert answer == ("success", f"tcp :{port} -> listens")


async def test_the_urgent_byte_is_not_in_the_servers_stream() -> None:
    heard: list[bytes] = []

    async def listens(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        heard.append(await reader.read())

    async with serving(listens) as port:
        assert (await tcp.ask(TcpCheck(port)))[0] == "success"
    assert heard == [b""]


async def test_a_server_that_speaks_first_is_well() -> None:
    async with serving(speaks_first) as port:
        assert (await tcp.ask(TcpCheck(port)))[0] == "success"


async def test_a_connection_that_is_closed_at_once_is_a_failure() -> None:
    async with serving(closes_at_once) as port:
        answer = await tcp.ask(TcpCheck(port))
    assert answer == ("failure", f"tcp :{port} -> closed at once")


async def test_a_connection_that_is_only_accepted_is_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as accepts:  # the kernel does, nobody reads
        answer = await tcp.ask(TcpCheck(accepts.getsockname()[1], timeout=0.2))
    assert answer[0] == "failure"
    assert "no answer within 0.2 s" in answer[1]


async def test_a_refusal_that_comes_late_is_a_failure() -> None:
    """User networking closes its side when the guest refuses, and has not read our byte."""
    with socket.create_server(("127.0.0.1", 0)) as accepts:
        asking = asyncio.create_task(tcp.ask(TcpCheck(accepts.getsockname()[1], timeout=5)))
        accepts.settimeout(0)
        connection, _ = await asyncio.get_running_loop().sock_accept(accepts)
        await asyncio.sleep(2 * tcp.MOMENT)  # the peer's own pace, not a wait of the test
        connection.close()
        answer = await asking
    assert answer[0] == "failure"
    assert "reset" in answer[1]


async def test_a_reset_is_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as accepts:
        asking = asyncio.create_task(tcp.ask(TcpCheck(accepts.getsockname()[1])))
        accepts.settimeout(0)
        connection, _ = await asyncio.get_running_loop().sock_accept(accepts)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        assert (await asking)[0] == "failure"


async def test_a_refused_connection_is_a_failure() -> None:
    port = servers.a_free_port()
    assert await tcp.ask(TcpCheck(port)) == ("failure", f"tcp :{port} -> connection refused")


async def test_an_unknown_host_is_our_error() -> None:
    assert (await tcp.ask(TcpCheck(80, host="no-such-host.invalid", timeout=20)))[0] == "error"


@pytest.mark.parametrize(("text", "result"), [("mail", "success"), ("ftp", "failure")])
async def test_the_peer_must_say_what_is_expected(text: str, result: str) -> None:
    async with serving(speaks_first) as port:
        answer = await tcp.ask(TcpCheck(port, expect=text))
    assert answer[0] == result
    if result == "failure":
        assert "said '220 mail ready" in answer[1]


async def test_a_greeting_that_comes_in_pieces_is_put_together() -> None:
    async def in_pieces(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in b"ready":
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)

    async with serving(in_pieces) as port:
        assert (await tcp.ask(TcpCheck(port, expect="ready")))[0] == "success"


async def test_a_peer_that_babbles_without_end_is_cut_off() -> None:
    async def babbles(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async with serving(babbles) as port:
        assert (await tcp.ask(TcpCheck(port, expect="never", timeout=5)))[0] == "failure"


async def test_a_peer_that_says_nothing_in_time_is_a_failure() -> None:
    async with serving(servers.never_reads) as port:
        assert (await tcp.ask(TcpCheck(port, expect="x", timeout=0.1)))[0] == "failure"


def test_a_guest_in_a_network_to_which_this_host_has_no_way_was_not_asked() -> None:
    assert is_ours(OSError(errno.ENETUNREACH, "network is unreachable"))
    assert not is_ours(OSError(errno.EHOSTUNREACH, "no route to host"))
