"""QMP against real sockets, with peers of every bad manner."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import DriverError
from reconciler.hypervisors import QemuConfig
from reconciler.vmm.qemu.driver import QemuDriver

pytestmark = [pytest.mark.shows(row=11), pytest.mark.shows(row=12)]

GREETING = {"QMP": {"version": {"qemu": {"major": 7}, "package": ""}, "capabilities": []}}
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def peer(folder: Path, serve: Serve) -> AsyncIterator[None]:
    """A server on the guest's control socket."""
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    (folder / "run").mkdir(parents=True, exist_ok=True)
    server = await asyncio.start_unix_server(handle, folder / "run/qmp.sock")
    try:
        yield
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def send(writer: asyncio.StreamWriter, message: object) -> None:
    writer.write(json.dumps(message).encode() + b"\r\n")


async def request_of(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """The next command; nothing ends it but its last brace. None at end of file."""
    text = b""
    while chunk := await reader.read(1024):
        text += chunk
        with contextlib.suppress(ValueError):
            request: dict[str, Any] = json.loads(text)
            return request
    return None


async def negotiate(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    send(writer, GREETING)
    await request_of(reader)
    send(writer, {"return": {}})


async def press(folder: Path, seconds: float = 5.0) -> None:
    """Of the VMM for which this very process stands in."""
    await QemuDriver(QemuConfig()).press_power_button(folder, os.getpid(), seconds)


async def test_the_power_button_is_pressed_once_and_the_connection_closed(tmp_path: Path) -> None:
    heard: list[str] = []
    hung_up = asyncio.Event()

    async def qemu(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        send(writer, GREETING)
        while request := await request_of(reader):
            heard.append(request["execute"])
            if "id" in request:
                send(writer, {"event": "POWERDOWN", "timestamp": {"seconds": 1, "microseconds": 0}})
                send(writer, {"return": {}, "id": request["id"]})
            else:
                send(writer, {"return": {}})
        hung_up.set()

    async with peer(tmp_path, qemu):
        await press(tmp_path)
        await asyncio.wait_for(hung_up.wait(), 5)
    assert heard == ["qmp_capabilities", "system_powerdown"]


@pytest.mark.shows(fault=15)
async def test_whoever_took_the_place_of_the_vmm_that_is_meant_is_told_nothing(
    tmp_path: Path,
) -> None:
    heard: list[bytes] = []
    hung_up = asyncio.Event()

    async def another(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        send(writer, GREETING)
        try:
            heard.append(await reader.read())
        finally:  # a reset, as the greeting was not read
            hung_up.set()

    async with peer(tmp_path, another):
        with pytest.raises(DriverError) as caught:
            await QemuDriver(QemuConfig()).press_power_button(tmp_path, os.getppid(), 5)
        await asyncio.wait_for(hung_up.wait(), 5)
    assert caught.value.kind == "missing"
    assert f"{os.getppid()} is meant" in str(caught.value)
    assert b"".join(heard) == b""


async def test_a_folder_with_a_very_long_path_is_no_obstacle(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100) / ("y" * 100)
    (folder / "run").mkdir(parents=True)
    with pytest.raises(DriverError) as caught:
        await press(folder)
    assert caught.value.kind == "missing"


async def test_a_socket_that_is_missing_is_told_as_missing(tmp_path: Path) -> None:
    with pytest.raises(DriverError) as caught:
        await press(tmp_path)
    assert caught.value.kind == "missing"


async def test_a_vmm_that_accepts_and_never_answers_costs_its_deadline_and_no_more(
    tmp_path: Path,
) -> None:
    async def stopped(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with peer(tmp_path, stopped):
        began = asyncio.get_running_loop().time()
        with pytest.raises(DriverError) as caught:
            await press(tmp_path, 0.2)
    assert caught.value.kind == "timeout"
    assert asyncio.get_running_loop().time() - began < 2


async def test_a_vmm_that_hangs_after_the_greeting_costs_its_deadline_and_no_more(
    tmp_path: Path,
) -> None:
    async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await negotiate(reader, writer)
        await asyncio.Event().wait()

    async with peer(tmp_path, hangs):
        with pytest.raises(DriverError) as caught:
            await press(tmp_path, 0.2)
    assert caught.value.kind == "timeout"


@pytest.mark.parametrize("said", [b"", b"\0\xff garbage\n", b"[]\n", b'{"QMP": 3}\n', b"{}\n"])
async def test_a_peer_that_speaks_something_else_is_an_error(tmp_path: Path, said: bytes) -> None:
    async def garbles(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await writer.drain()

    async with peer(tmp_path, garbles):
        with pytest.raises(DriverError) as caught:
            await press(tmp_path, 2)
    assert caught.value.kind == "protocol"


async def test_an_endless_reply_is_cut_off(tmp_path: Path) -> None:
    sent = 0

    async def floods(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    async with peer(tmp_path, floods):
        with pytest.raises(DriverError) as caught:
            await press(tmp_path, 10)
    assert caught.value.kind == "protocol"
    assert sent < 8 * 1024 * 1024


async def test_a_refusal_of_the_vmm_is_told_with_its_words(tmp_path: Path) -> None:
    async def refuses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await negotiate(reader, writer)
        request = await request_of(reader)
        assert request is not None
        error = {"class": "GenericError", "desc": "not now"}
        send(writer, {"error": error, "id": request["id"]})
        await reader.read()

    async with peer(tmp_path, refuses):
        with pytest.raises(DriverError, match="not now") as caught:
            await press(tmp_path)
    assert caught.value.kind == "refused"


@pytest.mark.shows(fault=124)
@pytest.mark.parametrize(
    "reply",
    [{"surprise": 1}, {"return": {}, "error": {}}, {"error": 5}, {"error": {}}, [], 7, {}],
    ids=str,
)
async def test_a_greeting_that_is_answered_with_nonsense_is_an_error_with_a_kind(
    tmp_path: Path, reply: object
) -> None:
    """The library asserts some of what a peer may break."""

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        send(writer, GREETING)
        await request_of(reader)
        send(writer, reply)
        await reader.read()

    async with peer(tmp_path, nonsense):
        with pytest.raises(DriverError) as caught:
            await press(tmp_path, 2.0)
    assert caught.value.kind in ("protocol", "refused", "timeout")


@pytest.mark.shows(fault=124)
@pytest.mark.parametrize(
    "reply", [{"surprise": 1}, {"error": 5}, {"error": {}}, {"error": {"class": 1}}, {}], ids=str
)
async def test_a_command_that_is_answered_with_nonsense_is_an_error_with_a_kind(
    tmp_path: Path, reply: dict[str, object]
) -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await negotiate(reader, writer)
        request = await request_of(reader)
        assert request is not None
        send(writer, {**reply, "id": request["id"]})
        await reader.read()

    async with peer(tmp_path, nonsense):
        with pytest.raises(DriverError) as caught:
            await press(tmp_path, 2.0)
    assert caught.value.kind in ("protocol", "refused", "timeout")


@pytest.mark.shows(fault=124)
async def test_a_vmm_that_hangs_up_at_any_moment_is_an_error_with_a_kind(tmp_path: Path) -> None:
    for moment in range(4):

        async def leaves(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, moment: int = moment
        ) -> None:
            if moment > 0:
                send(writer, GREETING)
            if moment > 1:
                await request_of(reader)
                send(writer, {"return": {}})
            if moment > 2:
                await request_of(reader)
            writer.close()

        folder = tmp_path / str(moment)
        async with peer(folder, leaves):
            with pytest.raises(DriverError) as caught:
                await press(folder, 2.0)
        assert caught.value.kind in ("protocol", "missing", "timeout"), moment
