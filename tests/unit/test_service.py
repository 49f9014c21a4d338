"""What the daemon tells systemd, and what it takes from it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.systemd_notify import Service, keep_informed

TAKES_SOCKET = """
import os
from reconciler.systemd_notify import Service
os.environ["LISTEN_PID"] = str(os.getpid())
service = Service()
taken = service.listener("control")
print(taken.getsockname(), service.listener("control"), service.listener("other"), os.get_inheritable(taken.fileno()))
print([name for name in os.environ if name.startswith("LISTEN")])
"""


class Manager:
    """The far end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(address)

    def heard(self) -> list[str]:
        found = []
        while True:
            try:
                found.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(str(tmp_path / "notify"))
    yield manager
    manager.close()


def a_service(tmp_path: Path, **more: str) -> Service:
    return Service({"NOTIFY_SOCKET": str(tmp_path / "notify"), **more})


def test_without_systemd_nothing_is_told_and_nothing_fails() -> None:
    service = Service({})
    service.ready()
    service.stopping()
    assert service.watchdog is None
    assert service.listener("control") is None


def test_a_manager_that_is_gone_is_no_error(tmp_path: Path) -> None:
    a_service(tmp_path).ready()


def test_a_status_is_one_line_and_told_once(tmp_path: Path, manager: Manager) -> None:
    service = a_service(tmp_path)
    service.status("3 of 4 VMs healthy\nREADY=1")
    service.status("3 of 4 VMs healthy\nREADY=1")
    assert manager.heard() == ["STATUS=3 of 4 VMs healthy READY=1"]


def test_a_reload_carries_the_time_by_which_systemd_tells_old_from_new(
    tmp_path: Path, manager: Manager
) -> None:
    service = a_service(tmp_path)
    service.reloading()
    service.ready()
    reloading, ready = manager.heard()
    assert reloading.startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert ready == "READY=1"


def test_an_abstract_socket_is_told_too() -> None:
    name = f"@reconciler-test-{os.getpid()}"
    manager = Manager("\0" + name[1:])
    Service({"NOTIFY_SOCKET": name}).ready()
    assert manager.heard() == ["READY=1"]
    manager.close()


def test_no_child_inherits_what_systemd_told_us(tmp_path: Path) -> None:
    environ = {"NOTIFY_SOCKET": str(tmp_path), "WATCHDOG_USEC": "30000000", "HOME": "/"}
    assert Service(environ).watchdog == 30
    assert environ == {"HOME": "/"}


@pytest.mark.shows(fault=65)
def test_the_watchdog_of_another_process_is_not_ours() -> None:
    another = str(os.getppid())  # not 1: in a container of its own, that may be us
    assert Service({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": another}).watchdog is None


def test_a_socket_is_taken_by_its_name_once_and_not_inherited(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "control.sock"))
        listener.listen()
        environ = {**os.environ, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "control"}
        ended = subprocess.run(
            [sys.executable, "-c", f"import os; os.dup2({listener.fileno()}, 3)\n{TAKES_SOCKET}"],
            env=environ, pass_fds=[listener.fileno()], capture_output=True, text=True, check=True,
        )  # fmt: skip
    assert ended.stdout.splitlines() == [f"{tmp_path}/control.sock None None False", "[]"]


async def test_readiness_waits_and_only_a_living_daemon_feeds_the_watchdog(
    tmp_path: Path, manager: Manager
) -> None:
    service = a_service(tmp_path, WATCHDOG_USEC="2000000")
    state = {"ready": False, "live": True, "rounds": 0}

    async def sleep(seconds: float) -> None:
        assert seconds <= 1
        state["rounds"] += 1
        state["ready"] = state["rounds"] >= 2
        state["live"] = state["rounds"] < 4
        if state["rounds"] == 6:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await keep_informed(
            service,
            sleep,
            ready=lambda: bool(state["ready"]),
            live=lambda: bool(state["live"]),
            words=lambda: "all is well",
        )
    assert manager.heard() == ["STATUS=all is well", "READY=1", "WATCHDOG=1", "WATCHDOG=1"]
