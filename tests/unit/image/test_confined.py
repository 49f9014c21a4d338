"""Programs over foreign input: what they reach, what they may use, and what they see."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reconciler.children.confinement import Bounds
from reconciler.children.spare import ConfinedPrograms
from reconciler.errors import BuildUnavailable
from tests.unit.probe.servers import serving, until_the_client_closes

pytestmark = pytest.mark.shows(row=45)


@pytest.fixture
async def programs() -> AsyncIterator[ConfinedPrograms]:
    programs = ConfinedPrograms()
    await programs.ready()
    yield programs
    await programs.close()


@pytest.fixture
async def connecting() -> AsyncIterator[tuple[str, ...]]:
    """A command that succeeds when it reaches a port of this host."""
    async with serving(until_the_client_closes) as port:
        yield "bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}"


async def test_a_program_has_no_network(
    programs: ConfinedPrograms, connecting: tuple[str, ...]
) -> None:
    assert (await programs.run(connecting, seconds=20)).status != 0


async def test_a_program_opens_no_socket_where_this_host_allows_no_namespace_either(
    programs: ConfinedPrograms,
) -> None:
    """The unit of the daemon may make none, and has no capability."""
    opens = "import socket; socket.socket(socket.AF_UNIX).close(); socket.socket(socket.AF_INET)"
    ended = await programs.run((sys.executable, "-c", opens), seconds=20)
    assert ended.tail.endswith("PermissionError: [Errno 13] Permission denied")


async def test_a_program_that_fetches_has_the_network(
    programs: ConfinedPrograms, connecting: tuple[str, ...]
) -> None:
    ended = await programs.run(connecting, seconds=20, bounds=Bounds(network=True))
    assert (ended.status, ended.tail) == (0, "")


async def test_a_program_ends_before_guests_and_the_daemon_where_memory_is_short(
    programs: ConfinedPrograms,
) -> None:
    """The daemon's own place among them is one of the last, and would be the program's."""
    ended = await programs.run(("cat", "/proc/self/oom_score_adj"), seconds=20)
    assert int(ended.tail) > 0


async def test_a_program_has_the_bounds_that_were_asked(
    programs: ConfinedPrograms, tmp_path: Path
) -> None:
    argv = ("head", "-c", "8192", "/dev/zero")
    most = Bounds(file_bytes=4096)
    ended = await programs.run(argv, seconds=20, bounds=most, stdout=tmp_path / "zeros")
    assert ended.status != 0
    assert (tmp_path / "zeros").stat().st_size == 4096
    ended = await programs.run(("sh", "-c", "ulimit -n"), seconds=20, bounds=Bounds(open_files=99))
    assert ended.tail == "99"


async def test_a_program_sees_its_own_variables_and_none_of_the_daemons(
    programs: ConfinedPrograms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "secret")
    ended = await programs.run(("env",), seconds=20, env={"HOME": str(tmp_path)})
    seen = dict(line.split("=", 1) for line in ended.tail.splitlines())
    assert seen["HOME"] == str(tmp_path)
    assert "TOKEN" not in seen


async def test_a_program_runs_in_its_folder(programs: ConfinedPrograms, tmp_path: Path) -> None:
    assert (await programs.run(("pwd",), seconds=20, cwd=tmp_path)).tail == str(tmp_path)
    ended = await programs.run(("pwd",), seconds=20, cwd=tmp_path / "gone")
    assert (ended.status, ended.tail) == (1, f"{tmp_path / 'gone'}: No such file or directory")


async def test_output_goes_to_a_new_file_and_errors_do_not(
    programs: ConfinedPrograms, tmp_path: Path
) -> None:
    argv = ("sh", "-c", "echo content; echo complaint >&2")
    ended = await programs.run(argv, seconds=20, stdout=tmp_path / "output")
    assert (ended.status, ended.tail) == (0, "complaint")
    assert (tmp_path / "output").read_text() == "content\n"
    assert (await programs.run(argv, seconds=20, stdout=tmp_path / "output")).status == 1


async def test_a_program_past_its_deadline_is_named(programs: ConfinedPrograms) -> None:
    for bounds in (Bounds(), Bounds(network=True)):
        with pytest.raises(BuildUnavailable, match="sleep: was not done after") as failure:
            await programs.run(("sleep", "600"), seconds=1, bounds=bounds)
        assert failure.value.kind == "deadline"


async def test_a_program_that_this_host_lacks_is_named(programs: ConfinedPrograms) -> None:
    with pytest.raises(BuildUnavailable, match="no-such-program") as failure:
        await programs.run(("no-such-program",), seconds=20)
    assert failure.value.kind == "missing-program"
