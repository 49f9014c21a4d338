"""Strangers on a face: few connections at once, short answers, few lines in the log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from reconciler.control import connections
from reconciler.control.servers import HttpListener, serve_http
from reconciler.logs import MOST_ALIKE, Lines, Sparing
from reconciler.proxy import tcp_relay as relay
from reconciler.proxy.tcp_relay import RelayState, TcpListener
from tests.eventually import eventually
from tests.unit.control.fake_operator import FakeOperator
from tests.unit.control.opening import ANY_PORT, access, shown

MALFORMED = b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


@pytest.fixture
async def face(
    operator: FakeOperator, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[HttpListener]:
    monkeypatch.setattr(connections, "MOST", 8)
    opened = await serve_http(operator, lambda: b"x 1\n", ANY_PORT, access())
    yield opened
    await opened.close()


async def asked(port: int, text: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text)
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    return answer


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208  not of a tree


@pytest.mark.shows(fault=37)
async def test_idle_strangers_never_hold_more_than_the_bound_and_others_are_answered(
    face: HttpListener,
) -> None:
    before = descriptors()
    async with contextlib.AsyncExitStack() as stack:
        strangers = []
        for _ in range(40):
            reader, writer = await asyncio.open_connection("127.0.0.1", face.port)
            stack.callback(writer.close)
            strangers.append(reader)
        assert b"200 OK" in await asked(face.port, HEALTH)
        # Of each connection one descriptor is the stranger's own, which is in this process here.
        assert descriptors() - before <= len(strangers) + 8 + 1
        for reader in strangers[:30]:
            async with asyncio.timeout(10):
                assert await reader.read() == b"", "who was idle for longest made room"


async def test_an_answer_under_way_is_not_ended_for_others(face: HttpListener) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", face.port)
    writer.write(
        f"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {shown()['Authorization']}\r\n\r\n".encode()
    )
    assert b"200 OK" in await reader.readline()
    held = [await asyncio.open_connection("127.0.0.1", face.port) for _ in range(20)]
    for _, other in held:
        other.write(HEALTH[:20])
    assert b"200 OK" in await asked(face.port, HEALTH)
    await face.close()
    async with asyncio.timeout(10):
        assert (await reader.read()).endswith(b"0\r\n\r\n"), "it ended as a whole, with the face"
    for _, other in [*held, (reader, writer)]:
        other.close()


@pytest.mark.shows(fault=39)
async def test_no_answer_names_the_library(
    face: HttpListener, caplog: pytest.LogCaptureFixture
) -> None:
    for text in (
        HEALTH,
        MALFORMED,
        b"\x16\x03\x01 no http\r\n\r\n",
        b"GET /none HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    ):
        answer = await asked(face.port, text)
        assert b"Server: reconciler\r\n" in answer
        assert b"aiohttp" not in answer.lower()
        assert b"python" not in answer.lower()
    assert not any(record.exc_info for record in caplog.records), "a stranger causes no traceback"


async def test_a_malformed_request_is_answered_and_its_words_are_not_repeated_to_it(
    face: HttpListener,
) -> None:
    answer = await asked(face.port, MALFORMED.replace(b"Host: x", b"X-Odd\x00: <script>"))
    assert answer.startswith(b"HTTP/1.0 400 ")
    assert b"script" not in answer


@pytest.mark.shows(fault=37)
async def test_without_descriptors_accepting_pauses_and_goes_on(
    face: HttpListener, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connections, "PAUSE", 0.05)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    loop = asyncio.get_running_loop()
    with socket.socket() as stranger:
        stranger.settimeout(0)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # none below is free
            await loop.sock_connect(stranger, ("127.0.0.1", face.port))
            await eventually(lambda: any("accepted" in r.message for r in caplog.records), 10)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await loop.sock_sendall(stranger, HEALTH)
        async with asyncio.timeout(10):
            assert b"200 OK" in await loop.sock_recv(stranger, 100)


@pytest.mark.shows(fault=37)
async def test_the_front_keeps_descriptors_for_those_who_say_where_ports_lead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay, "highest_descriptor", lambda: 0)
    (sock,) = await connections.listeners_on("127.0.0.1", 0)
    sock.listen()
    sock.setblocking(False)  # noqa: FBT003  its only form
    line = RelayState()
    listener = TcpListener(sock, line, 1)
    try:
        assert await asked(sock.getsockname()[1], b"") == b""
        assert line.open.total() == 0
    finally:
        listener.close()


@pytest.mark.parametrize(("soft", "most"), [(96, 24), (1024, 256), (16, 8), (1 << 20, 256)])
def test_a_face_takes_a_part_of_the_descriptors(
    monkeypatch: pytest.MonkeyPatch, soft: int, most: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))
    assert connections.most_connections() == most


def records(count: int, name: str, at: float, msg: str = "odd %s") -> Iterator[logging.LogRecord]:
    for number in range(count):
        made = logging.LogRecord(name, logging.WARNING, "", 0, msg, (number,), None)
        made.created = at
        yield made


@pytest.mark.shows(fault=38)
def test_alike_lines_are_few_a_minute_and_the_next_says_how_many_were_left_out() -> None:
    sparing = Sparing()
    told = [r for r in records(1000, "asyncio", 100.0) if sparing.filter(r)]
    assert len(told) == MOST_ALIKE
    (later,) = (r for r in records(1, "asyncio", 161.0) if sparing.filter(r))
    assert "left_out=995" in Lines(as_json=False).format(later)
    (back,) = (r for r in records(1, "asyncio", 5.0) if sparing.filter(r))
    assert back.created == 5.0, "a wall clock that was set back silences nothing"


@pytest.mark.shows(fault=38)
def test_lines_that_always_differ_are_bounded_too() -> None:
    sparing = Sparing()
    told = 0
    for number in range(5000):
        told += sum(sparing.filter(r) for r in records(1, "lib", 1.0, f"odd {number} %s"))
    assert told < 300
    assert len(sparing._kinds) <= 257


def test_our_own_lines_of_a_thousand_guests_are_all_told() -> None:
    sparing = Sparing(("reconciler.control",))
    assert (
        sum(
            sparing.filter(r)
            for r in records(1000, "reconciler.supervisor.process_supervisor", 1.0)
        )
        == 1000
    )
    assert (
        sum(sparing.filter(r) for r in records(1000, "reconciler.control.servers", 1.0))
        == MOST_ALIKE
    )


@pytest.mark.shows(fault=38)
def test_what_libraries_say_is_a_line_of_our_log() -> None:
    program = """
import logging
from reconciler import logs
logs.open_log("logfmt", {})
for name in ("asyncio", "aiohttp.server", "watchdog.observers", "any.other"):
    for n in range(50):
        try:
            raise OSError(f"line one\\nline two {n}")
        except OSError:
            logging.getLogger(name).exception("it broke: %s", "x\\ny")
"""
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[3],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    lines = found.stderr.splitlines()
    assert len(lines) == 4 * MOST_ALIKE
    assert all(line.startswith("time=") and "it broke" in line for line in lines)
