import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from reconciler.cli.app import main
from reconciler.config import parse_config
from reconciler.control.servers import serve_control
from tests.unit.control.fake_operator import FakeOperator, StillClock
from tests.unit.control.opening import access


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Run = Callable[..., Awaitable[Result]]


@pytest.fixture
async def operator(tmp_path: Path) -> FakeOperator:
    await asyncio.sleep(0)  # its events belong to the running loop
    return FakeOperator(tmp_path / "console.log")


@pytest.fixture
async def socket(
    operator: FakeOperator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Path]:
    """A daemon's socket, which commands find by themselves."""
    path = tmp_path / "control.sock"
    settings: dict[str, object] = {"source": {"url": "file:///repo"}, "control_socket": str(path)}
    face = await serve_control(operator, parse_config(settings, "test"), StillClock(), access())
    monkeypatch.setenv("RECONCILER_SOCKET", str(path))
    monkeypatch.setenv("COLUMNS", "80")
    yield path
    await face.close()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line in a thread, so that the daemon behind it can answer."""

    async def run_command(*arguments: str) -> Result:
        capsys.readouterr()
        code = await asyncio.to_thread(main, list(arguments))
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run_command
