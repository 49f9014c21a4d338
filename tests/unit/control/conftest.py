import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from reconciler.config import Config, parse_config
from reconciler.control.servers import ControlListener, serve_control, serve_http
from tests.unit.control.fake_operator import FakeOperator, StillClock
from tests.unit.control.opening import ANY_PORT, access, shown


@pytest.fixture
def config(tmp_path: Path) -> Config:
    socket = str(tmp_path / "control.sock")
    return parse_config({"source": {"url": "file:///repo"}, "control_socket": socket}, "test")


@pytest.fixture
async def operator(tmp_path: Path) -> FakeOperator:
    await asyncio.sleep(0)  # its events belong to the running loop
    return FakeOperator(tmp_path / "console.log")


@pytest.fixture
async def face(operator: FakeOperator, config: Config) -> AsyncIterator[ControlListener]:
    opened = await serve_control(operator, config, StillClock(), access())
    yield opened
    await opened.close()


@pytest.fixture
async def http(face: ControlListener) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.UnixConnector(str(face.path))
    async with aiohttp.ClientSession("http://daemon", connector=connector) as session:
        yield session


@pytest.fixture
async def page(operator: FakeOperator) -> AsyncIterator[aiohttp.ClientSession]:
    face = await serve_http(operator, lambda: b"x 1\n", ANY_PORT, access())
    home = f"http://127.0.0.1:{face.port}"
    async with aiohttp.ClientSession(home, headers=shown()) as session:
        yield session
    await face.close()
