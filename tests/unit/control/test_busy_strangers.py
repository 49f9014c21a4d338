"""Strangers whose questions or answers never end, and who take no place of others by it."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack

import pytest

from reconciler.control import connections
from reconciler.control.page.frame import STAMPS
from reconciler.control.servers import HttpListener, serve_http
from reconciler.control.webhook import Webhook
from tests.unit.control.fake_operator import FakeOperator
from tests.unit.control.opening import ANY_PORT, access, shown
from tests.unit.control.test_connections import HEALTH, asked

MOST = 4
HEAD = "Host: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\nContent-Length: 999\r\n"
LARGE = f"GET /page/{STAMPS['page.js']}/page.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode() * 400
FORM = "Content-Type: application/x-www-form-urlencoded\r\n"
ENDLESS = {
    "answers that are never read": LARGE,
    "a form that never comes whole": f"POST /login HTTP/1.1\r\n{HEAD}{FORM}\r\ntoken=".encode(),
    "a webhook that never comes whole": (
        f"POST /webhook HTTP/1.1\r\n{HEAD}X-Gitea-Event: push\r\nX-Gitea-Signature: 0\r\n\r\n{{"
    ).encode(),
}


@pytest.fixture
async def face(
    operator: FakeOperator, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[HttpListener]:
    monkeypatch.setattr(connections, "MOST", MOST)
    monkeypatch.setattr(connections, "FEWEST", MOST)
    webhook = Webhook(b"a secret of some length", lambda: None, lambda *_: None, 3600.0)
    opened = await serve_http(
        operator, lambda: b"x 1\n", ANY_PORT, access(), webhook=webhook
    )  # fmt: skip
    yield opened
    await opened.close()


async def stranger(face: HttpListener, stack: ExitStack, text: bytes) -> socket.socket:
    """Sends this, as far as it is taken, and reads nothing."""
    made = stack.enter_context(socket.socket())
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    made.settimeout(0)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(made, ("127.0.0.1", face.port))
    try:
        async with asyncio.timeout(2):
            while text is LARGE:
                await loop.sock_sendall(made, text)
            await loop.sock_sendall(made, text)
    except TimeoutError:
        pass
    return made


@pytest.mark.shows(fault=52)
@pytest.mark.parametrize("endless", ENDLESS)
async def test_a_stranger_who_never_ends_makes_room_for_others(
    face: HttpListener, endless: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with ExitStack() as stack:
        async with asyncio.TaskGroup() as group:
            for _ in range(MOST):
                group.create_task(stranger(face, stack, ENDLESS[endless]))
        for _ in range(3):
            assert b"200 OK" in await asked(face.port, HEALTH)
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.shows(fault=52)
async def test_who_may_ask_is_answered_to_the_end_among_strangers_who_never_end(
    face: HttpListener,
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", face.port)
    may = shown()["Authorization"]
    writer.write(
        f"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {may}\r\n\r\n".encode()
    )
    assert b"200 OK" in await reader.readline()
    form = ENDLESS["a form that never comes whole"]
    with ExitStack() as stack:
        for _ in range(3 * MOST):
            await stranger(face, stack, form)
        assert b"200 OK" in await asked(face.port, HEALTH)
        await face.close()
        async with asyncio.timeout(10):
            assert (await reader.read()).endswith(b"0\r\n\r\n"), (
                "it ended as a whole, with the face"
            )
    writer.close()
