"""The http check against services of every manner."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
from collections.abc import AsyncIterator

import aiohttp
import pytest

from reconciler.model.checks import HttpCheck
from reconciler.model.health import ProbeResult
from reconciler.model.names import InstanceId
from reconciler.probe import http
from tests.unit.probe import servers
from tests.unit.probe.servers import Serve, serving

pytestmark = [pytest.mark.shows(row=43), pytest.mark.shows(row=56)]

WEB = InstanceId("web-g2-19b3c0ffee1")


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    session = http.open_session()
    yield session
    await session.close()


@pytest.mark.parametrize(
    ("serve", "result", "said"),
    [
        (servers.http(), "success", "200"),
        (servers.http("204 No Content", ""), "success", "204"),
        (servers.http("302 Found", "", "Location: http://127.0.0.1:1/\r\n"), "success", "302"),
        (servers.http("404 Not Found"), "failure", "404"),
        (servers.http("503 Unavailable"), "failure", "503"),
        (servers.replying("HTTP/1.0 200 OK\r\n\r\nok"), "success", "200"),
        (servers.replying("SSH-2.0-OpenSSH\r\n"), "failure", ""),
        (servers.replying(b"\x15\x03\x01\x00\x02\x02\x46"), "failure", ""),
        (servers.replying(""), "failure", ""),
        (servers.replying("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"), "failure", ""),
        (servers.replying("HTTP/1.1 200 OK\r\nX: " + "x" * 100_000), "failure", ""),
        (servers.replying("HTTP/1.1 999999999 Odd\r\n\r\n"), "failure", ""),
    ],
    ids=[
        "ok",
        "no content",
        "redirect",
        "not found",
        "unavailable",
        "http 1.0",
        "not http",
        "tls",
        "nothing",
        "cut short",
        "huge header",
        "odd status",
    ],
)
async def test_each_answer_is_judged(
    session: aiohttp.ClientSession, serve: Serve, result: ProbeResult, said: str
) -> None:
    async with serving(serve) as port:
        answer = await http.ask(HttpCheck(port, "/healthz"), session, WEB)
    assert answer[0] == result, answer
    assert answer[1].startswith(f"GET :{port}/healthz -> {said}")


async def test_a_redirect_is_not_followed(session: aiohttp.ClientSession) -> None:
    asked = 0

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await servers.http()(reader, writer)

    async with serving(count) as elsewhere:
        loop = servers.http("302 Found", "", f"Location: http://127.0.0.1:{elsewhere}/\r\n")
        async with serving(loop) as port:
            answer = await http.ask(HttpCheck(port, status=(200, 299)), session, WEB)
    assert answer[0] == "failure"
    assert asked == 0


async def test_the_text_must_be_in_the_body(session: aiohttp.ClientSession) -> None:
    async with serving(servers.http(body="generation 7 is ready")) as port:
        assert (await http.ask(HttpCheck(port, contains="7 is"), session, WEB))[0] == "success"
        result, detail = await http.ask(HttpCheck(port, contains="8 is"), session, WEB)
    assert result == "failure"
    assert "without '8 is'" in detail


async def test_only_the_first_64_kib_are_looked_at(session: aiohttp.ClientSession) -> None:
    async with serving(servers.http(body="x" * 65_536 + "needle")) as port:
        assert (await http.ask(HttpCheck(port, contains="needle"), session, WEB))[0] == "failure"
        assert (await http.ask(HttpCheck(port), session, WEB))[0] == "success"


async def test_an_endless_body_is_cut_off(session: aiohttp.ClientSession) -> None:
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    async with serving(endless) as port:
        answer = await http.ask(HttpCheck(port, timeout=5), session, WEB)
    assert answer[0] == "success"
    assert sent < 64 * 1024 * 1024


async def test_a_body_that_drips_is_a_failure_at_the_deadline(
    session: aiohttp.ClientSession,
) -> None:
    async def drips(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with serving(drips) as port:
        began = asyncio.get_running_loop().time()
        answer = await http.ask(HttpCheck(port, timeout=0.2), session, WEB)
    assert answer == ("failure", f"GET :{port}/ -> no answer within 0.2 s")
    assert asyncio.get_running_loop().time() - began < 2


async def test_a_service_that_accepts_and_says_nothing_is_a_failure(
    session: aiohttp.ClientSession,
) -> None:
    async with serving(servers.never_reads) as port:
        assert (await http.ask(HttpCheck(port, timeout=0.1), session, WEB))[0] == "failure"


async def test_a_refused_connection_is_the_guests_failure(session: aiohttp.ClientSession) -> None:
    port = servers.a_free_port()
    answer = await http.ask(HttpCheck(port), session, WEB)
    assert answer == ("failure", f"GET :{port}/ -> connection refused")


async def test_a_compressed_bomb_is_not_unpacked(session: aiohttp.ClientSession) -> None:
    reply = servers.http(body="not gzip", headers="Content-Encoding: gzip\r\n")
    async with serving(reply) as port:
        assert (await http.ask(HttpCheck(port), session, WEB))[0] == "success"


async def test_cookies_and_connections_are_not_kept(session: aiohttp.ClientSession) -> None:
    heads: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")
        assert await reader.read() == b""

    async with serving(note) as port:
        for _ in range(2):
            assert (await http.ask(HttpCheck(port), session, WEB))[0] == "success"
    assert len(heads) == 2
    assert b"cookie" not in heads[1].lower()


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/a%20b?q=%2F&r=1", b"/a%20b?q=%2F&r=1"),
        ("/a b", b"/a%20b"),
        ("@127.0.0.1:1/", b"/@127.0.0.1:1/"),
        ("//127.0.0.1:1/x", b"//127.0.0.1:1/x"),
        ("/x\r\nEvil: 1", b"/x%0D%0AEvil:%201"),
        ("", b"/"),
    ],
)
async def test_a_path_names_neither_another_host_nor_a_header(
    session: aiohttp.ClientSession, path: str, asked: bytes
) -> None:
    lines: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append(await reader.readline())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with serving(note) as port:
        assert (await http.ask(HttpCheck(port, path), session, WEB))[0] == "success"
    assert lines == [b"GET " + asked + b" HTTP/1.1\r\n"]


@pytest.mark.parametrize("host", ["no-such-host.invalid", "not a host", ""])
async def test_a_host_that_is_none_is_our_error(session: aiohttp.ClientSession, host: str) -> None:
    assert (await http.ask(HttpCheck(80, host=host), session, WEB))[0] == "error"


async def test_running_out_of_files_is_our_error_and_not_the_guests_failure(
    session: aiohttp.ClientSession,
) -> None:
    async with serving(servers.http()) as port:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        highest = os.dup(0)
        os.close(highest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
        try:
            answer = await http.ask(HttpCheck(port), session, WEB)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert answer[0] == "error"
    assert os.strerror(errno.EMFILE).lower() in answer[1]


@pytest.mark.parametrize(
    ("serve", "result", "said"),
    [
        (servers.http(body=f"{WEB}\n"), "success", "200"),
        (servers.http(body=f'{{"instance": "{WEB}", "ok": true}}'), "success", "200"),
        (servers.http(headers=f"x-instance-id: {WEB}\r\n"), "success", "200"),
        (
            servers.http(body="web-g1-19b3c0ffee0"),
            "failure",
            f"200 from web-g1-19b3c0ffee0, not from {WEB}: another guest answers",
        ),
        (
            servers.http(body=WEB, headers="X-Instance-Id: web-g1-19b3c0ffee0\r\n"),
            "failure",
            "200 from web-g1-19b3c0ffee0",
        ),
        (servers.http(), "failure", f"200 without the guest's id {WEB}"),
        (servers.http(body=f"my-{WEB}"), "failure", f"200 from my-{WEB}"),
        (servers.http(body=f"{WEB}0"), "failure", f"200 from {WEB}0"),
        (servers.http(body=f"{WEB}-x"), "failure", "200 without"),
        (servers.http(body=f"é{WEB}é"), "success", "200"),
        (servers.http(body="a-" * 32_768), "failure", "200 without"),
        (servers.http(body="x" * 65_536 + WEB), "failure", "200 without"),
        (servers.http(headers=f"X-Instance-Id: {'x' * 4000} {WEB}\r\n"), "failure", "200 without"),
        (servers.http("503 Unavailable", WEB), "failure", "503"),
    ],
    ids=[
        "body", "json", "header", "older", "older header", "none", "other VM", "longer", "longer yet", "other letters", "tangled", "too late",
        "too far", "unwell",
    ],
)  # fmt: skip
async def test_the_answer_names_the_guest_that_was_started(
    session: aiohttp.ClientSession, serve: Serve, result: ProbeResult, said: str
) -> None:
    async with serving(serve) as port:
        answer = await http.ask(HttpCheck(port, expect_instance=True), session, WEB)
        assert answer[0] == result, answer
        assert answer[1].startswith(f"GET :{port}/ -> {said}")
