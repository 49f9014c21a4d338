"""Finding and ending what a fleet left."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo.processes import alive, end, guests_under, processes_under
from tests.wait import wait_until

Spawn = Callable[..., subprocess.Popen[bytes]]

SLEEP = "import time; time.sleep(60)"
STUBBORN = (
    f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); {SLEEP}"
)


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    children: list[subprocess.Popen[bytes]] = []

    def start(code: str, **options: object) -> subprocess.Popen[bytes]:
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, **options)  # type: ignore[call-overload]
        children.append(child)
        return child  # type: ignore[no-any-return]

    yield start
    for child in children:
        child.kill()
        child.communicate()


def test_a_guest_is_found_by_its_mark_and_its_folder(spawn: Spawn, tmp_path: Path) -> None:
    guest = spawn(SLEEP, cwd=tmp_path, env={"RECONCILER_VM": "web"})
    other = spawn(SLEEP, cwd="/", env={"RECONCILER_VM": "elsewhere"})
    helper = spawn(SLEEP, cwd="/", env={"STATE": f"{tmp_path}/state"})
    wait_until(lambda: len(processes_under(tmp_path)) == 2, 5)
    assert [(found.pid, found.vm) for found in guests_under(tmp_path)] == [(guest.pid, "web")]
    found = {process.pid for process in processes_under(tmp_path)}
    assert helper.pid in found
    assert other.pid not in found


def test_a_folder_with_a_longer_name_is_another_folder(spawn: Spawn, tmp_path: Path) -> None:
    (tmp_path / "rc-1").mkdir()
    (tmp_path / "rc-12").mkdir()
    spawn(SLEEP, cwd=tmp_path / "rc-12", env={"RECONCILER_VM": "web"})
    wait_until(lambda: guests_under(tmp_path / "rc-12"), 5)
    assert guests_under(tmp_path / "rc-1") == []


def test_ended_processes_are_gone_though_nobody_reaped_them(spawn: Spawn, tmp_path: Path) -> None:
    guest = spawn(SLEEP, cwd=tmp_path, env={"RECONCILER_VM": "web"})
    wait_until(lambda: guests_under(tmp_path), 5)
    assert alive(guest.pid)
    assert end([guest.pid]) == []
    assert not alive(guest.pid)
    assert guests_under(tmp_path) == []


def test_who_ignores_the_polite_signal_is_killed(spawn: Spawn) -> None:
    stubborn = spawn(STUBBORN)
    assert stubborn.stdout
    stubborn.stdout.readline()
    assert end([stubborn.pid], grace=0.2) == []
    assert not alive(stubborn.pid)


def test_ending_nobody_is_fine() -> None:
    assert end([]) == []
