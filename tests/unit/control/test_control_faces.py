"""Sockets and ports: opened once, with the right mode, and left clean."""

import asyncio
import os
import socket
import stat
from collections.abc import AsyncGenerator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from reconciler.config import Config, HttpConfig
from reconciler.control import servers as serve, streams
from reconciler.control.listener import identity
from reconciler.control.servers import ControlListener, serve_control, serve_http
from reconciler.control.streams import Followers
from reconciler.errors import ConfigError
from tests.unit.control.fake_operator import FakeOperator, StillClock
from tests.unit.control.opening import ANY_PORT, access, shown


def dead_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))


def in_the_way(path: Path) -> tuple[int, int] | None:
    path.write_text("precious")
    return identity(path)


async def test_the_socket_is_for_owner_and_group_alone(face: ControlListener) -> None:
    found = face.path.stat()
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o660


async def test_closing_removes_the_socket(operator: FakeOperator, config: Config) -> None:
    face = await serve_control(operator, config, StillClock(), access())
    await face.close()
    assert not face.path.exists()


async def test_the_socket_of_a_dead_daemon_is_replaced(
    operator: FakeOperator, config: Config
) -> None:
    dead_socket(Path(config.control_socket))
    face = await serve_control(operator, config, StillClock(), access())
    await face.close()


async def test_a_live_daemon_keeps_its_socket(
    face: ControlListener, operator: FakeOperator, config: Config
) -> None:
    with pytest.raises(ConfigError, match="another daemon listens"):
        await serve_control(operator, config, StillClock(), access())
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(face.path))) as http,
        http.get("http://daemon/v1/version") as answer,
    ):
        assert answer.status == 200


async def test_a_file_in_the_way_is_left_alone(operator: FakeOperator, config: Config) -> None:
    found = in_the_way(Path(config.control_socket))
    with pytest.raises(ConfigError, match="is not a socket"):
        await serve_control(operator, config, StillClock(), access())
    assert identity(Path(config.control_socket)) == found


async def test_a_path_that_is_too_long_is_a_config_error(
    operator: FakeOperator, config: Config, tmp_path: Path
) -> None:
    long = config.model_copy(update={"control_socket": str(tmp_path / ("x" * 120))})
    with pytest.raises(ConfigError, match="too long"):
        await serve_control(operator, long, StillClock(), access())


async def test_the_socket_of_a_successor_is_not_removed(face: ControlListener) -> None:
    face.path.unlink()
    dead_socket(face.path)
    await face.close()
    assert face.path.exists()


async def test_the_public_face_shows_metrics_and_health_and_nothing_else(
    operator: FakeOperator,
) -> None:
    face = await serve_http(operator, lambda: b"reconciler_up 1\n", ANY_PORT, access())
    async with aiohttp.ClientSession(f"http://127.0.0.1:{face.port}", headers=shown()) as http:
        async with http.get("/metrics") as answer:
            assert await answer.text() == "reconciler_up 1\n"
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        for path, status in (
            ("/healthz", 200),
            ("/readyz", 200),
            ("/v1/status", 404),
            ("/v1", 404),
        ):
            async with http.get(path) as answer:
                assert answer.status == status
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
            async with http.request(method, "/v1/request", data=b"{}") as answer:
                assert answer.status == 405
                assert answer.headers["Allow"] == "GET,HEAD"
    await face.close()


async def test_health_and_readiness_tell_the_truth(operator: FakeOperator) -> None:
    operator.alive = operator.is_ready = False
    face = await serve_http(operator, bytes, ANY_PORT, access())
    async with aiohttp.ClientSession(f"http://127.0.0.1:{face.port}", headers=shown()) as http:
        for path in ("/healthz", "/readyz"):
            async with http.get(path) as answer:
                assert answer.status == 503
    await face.close()


@pytest.mark.shows(fault=53)
async def test_why_the_daemon_is_not_ready_is_told_to_those_with_a_token_alone(
    operator: FakeOperator,
) -> None:
    operator.is_ready = False
    face = await serve_http(operator, bytes, ANY_PORT, access())
    async with aiohttp.ClientSession(f"http://127.0.0.1:{face.port}") as http:
        answers = {}
        for who, headers in (("nobody", {}), ("reader", shown()), ("liar", shown("wrong"))):
            async with http.get("/readyz", headers=headers) as answer:
                answers[who] = answer.status, operator.unready() in await answer.text()
    assert answers == {"nobody": (503, False), "reader": (503, True), "liar": (401, False)}
    await face.close()


async def test_a_failing_scrape_does_not_end_the_face(
    operator: FakeOperator, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> bytes:
        raise RuntimeError("inner text")

    face = await serve_http(operator, broken, ANY_PORT, access())
    async with aiohttp.ClientSession(f"http://127.0.0.1:{face.port}", headers=shown()) as http:
        async with http.get("/metrics") as answer:
            assert answer.status == 500
            assert "inner text" not in await answer.text()
        async with http.get("/healthz") as answer:
            assert answer.status == 200
    assert "inner text" in caplog.text
    await face.close()


async def test_a_port_in_use_is_a_config_error(operator: FakeOperator) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="cannot listen"):
            await serve_http(operator, bytes, HttpConfig(port=taken.getsockname()[1]), access())


async def test_a_folder_that_may_not_be_written_is_a_config_error(
    operator: FakeOperator, config: Config, tmp_path: Path
) -> None:
    if os.geteuid() == 0:
        path = Path("/proc/nowhere/control.sock")
    else:
        (tmp_path / "shut").mkdir(mode=0o500)
        path = tmp_path / "shut" / "control.sock"
    with pytest.raises(ConfigError, match="control_socket"):
        await serve_control(
            operator,
            config.model_copy(update={"control_socket": str(path)}),
            StillClock(),
            access(),
        )


async def test_a_socket_that_somebody_removed_is_there_again(face: ControlListener) -> None:
    face.path.unlink()
    await looks(face, 1)
    assert stat.S_IMODE(face.path.stat().st_mode) == 0o660
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(face.path))) as http,
        http.get("http://daemon/v1/version") as answer,
    ):
        assert answer.status == 200


async def test_a_socket_that_is_there_is_left_as_it_is(face: ControlListener) -> None:
    before = identity(face.path)
    await looks(face, 3)
    assert identity(face.path) == before


async def test_a_removed_socket_with_a_file_in_its_place_is_told_once_and_tried_again(
    face: ControlListener, caplog: pytest.LogCaptureFixture
) -> None:
    face.path.unlink()
    face.path.write_text("precious")
    await looks(face, 3)
    assert face.path.read_text() == "precious"
    assert caplog.text.count("the control socket is gone") == 1
    face.path.unlink()
    await looks(face, 1)
    assert stat.S_ISSOCK(face.path.stat().st_mode)


async def looks(face: ControlListener, many: int) -> None:
    """It looks so many times whether its socket is there, and then no more."""
    left = iter(range(many))

    async def sleep(_: float) -> None:
        if next(left, None) is None:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await face.keep(sleep)


@pytest.mark.parametrize("head", [b"", b"GET / HTTP/1.1\r\nHost: local"])
async def test_who_connects_and_does_not_ask_is_not_kept(
    operator: FakeOperator, monkeypatch: pytest.MonkeyPatch, head: bytes
) -> None:
    monkeypatch.setattr(serve, "IDLE_SECONDS", 0.1)
    face = await serve_http(operator, lambda: b"x 1\n", ANY_PORT, access())
    reader, writer = await asyncio.open_connection("127.0.0.1", face.port)
    writer.write(head)
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()
    await face.close()


async def test_who_follows_and_reads_nothing_loses_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "MOST_FOLLOWERS", 1)
    followers = Followers(patience=0.2)
    ended = asyncio.Event()

    async def for_ever() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield bytes(1 << 20)
        finally:
            ended.set()

    async def follow(request: web.Request) -> web.StreamResponse:
        return await followers.stream(request, "text/plain", for_ever())

    app = web.Application()
    app.add_routes([web.get("/", follow)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    _, deaf = await asyncio.open_connection(host, port, limit=1024)
    try:
        deaf.write(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        async with asyncio.timeout(20.0):
            await ended.wait()
        with followers.one_more():  # raises, were the place not free
            pass
    finally:
        deaf.transport.abort()
        await runner.cleanup()
