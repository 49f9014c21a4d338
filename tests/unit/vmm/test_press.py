"""The program that presses a power button without the daemon, against peers of every bad manner."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.hypervisors import QemuConfig
from reconciler.vmm.qemu import power_button as press
from reconciler.vmm.qemu.argv import QMP_SOCKET
from reconciler.vmm.qemu.driver import QemuDriver
from tests.unit.vmm.machines import a_machine

pytestmark = pytest.mark.shows(fault=45)

GREETING = b'{"QMP": {"version": {}, "capabilities": []}}\r\n'
Serve = Callable[[socket.socket], None]
Listening = Callable[[Serve], Path]


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Listening]:
    """A peer behind a socket; it ends with the test."""
    with socket.socket(socket.AF_UNIX) as server:
        threads = []

        def start(serve: Serve) -> Path:
            path = tmp_path / "qmp.sock"
            server.bind(str(path))
            server.listen(1)

            def accept() -> None:
                connection, _ = server.accept()
                with connection:
                    serve(connection)

            threads.append(threading.Thread(target=accept))
            threads[-1].start()
            return path

        yield start
        for thread in threads:
            thread.join(10)


def commands(peer: socket.socket) -> Iterator[str]:
    with peer.makefile("rb") as lines:
        for line in lines:
            yield json.loads(line)["execute"]


def run(path: Path, seconds: float) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-IS", press.__file__, str(path), str(seconds)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)


def test_it_presses_until_the_guest_is_gone(listening: Listening) -> None:
    heard: list[str] = []

    def a_guest_that_was_still_booting(peer: socket.socket) -> None:
        peer.sendall(GREETING)
        for command in commands(peer):
            heard.append(command)
            peer.sendall(b'{"return": {}}\r\n{"event": "POWERDOWN", "data": {}}\r\n')
            if heard.count("system_powerdown") == 2:
                return

    assert run(listening(a_guest_that_was_still_booting), 20).returncode == press.GONE
    assert heard == ["qmp_capabilities", "system_powerdown", "system_powerdown"]


def test_a_guest_that_does_not_listen_is_given_up_in_time(listening: Listening) -> None:
    def deaf(peer: socket.socket) -> None:
        peer.sendall(GREETING)
        assert [*commands(peer)] == ["qmp_capabilities", "system_powerdown"]

    ended = run(listening(deaf), 0.3)
    assert ended.returncode == press.STAYED
    assert "did not turn itself off within 0.3 s" in ended.stderr


def test_a_vmm_that_hangs_is_given_up_in_time(listening: Listening) -> None:
    def silent(peer: socket.socket) -> None:
        assert list(commands(peer)) == []

    assert run(listening(silent), 0.3).returncode == press.STAYED


def test_what_is_no_vmm_is_told_as_such(listening: Listening) -> None:
    def stranger(peer: socket.socket) -> None:
        peer.sendall(b"HTTP/1.1 400 Bad Request\r\n")
        peer.recv(1)

    ended = run(listening(stranger), 20)
    assert ended.returncode == press.STAYED
    assert "cannot press the power button" in ended.stderr


def test_words_of_other_kinds_are_no_greeting(listening: Listening) -> None:
    def odd(peer: socket.socket) -> None:
        peer.sendall(b'5\r\n"QMP"\r\n[]\r\n\r\n')
        assert list(commands(peer)) == []

    assert run(listening(odd), 0.3).returncode == press.STAYED


def test_a_line_without_an_end_is_given_up(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(press, "MOST_UNREAD", 64)
    path = listening(lambda peer: peer.sendall(b"x" * 4096))
    with pytest.raises(ValueError, match="not QMP"):
        press.press(str(path), 5)


def test_a_guest_that_is_gone_needs_no_press(tmp_path: Path) -> None:
    path = tmp_path / "qmp.sock"
    assert run(path, 20).returncode == press.GONE
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))  # and stays in the folder, as that of a dead VMM
    assert run(path, 20).returncode == press.GONE


def test_it_needs_python_alone() -> None:
    text = Path(press.__file__).read_text(encoding="utf-8")
    assert "reconciler." not in text


def test_the_driver_gives_the_guest_its_own_time() -> None:
    launch = QemuDriver(QemuConfig()).launch(replace(a_machine(), stop_timeout=7.5))
    assert launch.power_button == (sys.executable, "-IS", press.__file__, QMP_SOCKET, "7.5")


def test_a_link_to_the_socket_of_another_guest_is_not_followed(tmp_path: Path) -> None:
    link = tmp_path / "link.sock"
    link.symlink_to(tmp_path / "other.sock")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "other.sock"))
        other.listen()
        other.settimeout(0)
        ended = run(link, 0.5)
        assert ended.returncode == press.STAYED
        assert "is a link" in ended.stderr
        with pytest.raises(BlockingIOError):
            other.accept()
