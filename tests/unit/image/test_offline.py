"""A program that was put offline reaches no network, and nothing that it starts does."""

from __future__ import annotations

import subprocess
import sys

import pytest

from reconciler.children.offline import PROCESSORS, filter_of

TRY = """
import socket, sys
def opens(family):
    try:
        socket.socket(family).close()
    except PermissionError:
        return False
    return True
print([opens(family) for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)])
left, right = socket.socketpair()
left.send(b"x"); assert right.recv(1) == b"x"
"""


def offline(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "reconciler.children.offline", *argv],
        check=False, capture_output=True, text=True, timeout=30,
    )  # fmt: skip


def test_only_local_sockets_can_be_opened() -> None:
    done = offline(sys.executable, "-c", TRY)
    assert (done.returncode, done.stdout) == (0, "[True, False, False, False]\n"), done.stderr


def test_what_it_starts_is_offline_too_whatever_user_it_is() -> None:
    done = offline("sh", "-c", f"exec setsid {sys.executable} -c '{TRY}'")
    assert done.stdout == "[True, False, False, False]\n", done.stderr


def test_a_ring_that_could_open_sockets_is_refused() -> None:
    ring = "import ctypes; c = ctypes.CDLL(None, use_errno=True); print(c.syscall(425, 8, bytes(120)), ctypes.get_errno())"
    assert offline(sys.executable, "-c", ring).stdout == "-1 13\n"


def test_a_program_that_is_missing_is_told() -> None:
    done = offline("/nowhere/program")
    assert (done.returncode, done.stdout) == (127, "/nowhere/program: No such file or directory")


@pytest.mark.parametrize("processor", PROCESSORS)
def test_every_jump_of_the_filter_stays_within_it(processor: str) -> None:
    code = filter_of(PROCESSORS[processor])
    lines = [code[at : at + 8] for at in range(0, len(code), 8)]
    assert len(lines) == 11
    assert all(
        number + 1 + max(line[2], line[3]) < len(lines) or line[0] == 6
        for number, line in enumerate(lines)
    )
