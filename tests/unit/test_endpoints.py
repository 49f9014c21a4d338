"""Locks and sockets by which processes find each other."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

import pytest

from reconciler.endpoints import dial, is_held, short_address


def test_a_lock_is_held_for_as_long_as_its_holder_has_it_open(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert not is_held(lock), "there is none"
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT)
    assert not is_held(lock), "nobody took it"
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert is_held(lock)
    os.close(descriptor)
    assert not is_held(lock)


def test_a_link_in_the_place_of_a_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="symbolic links"):
        is_held(tmp_path / "lock")


def test_a_socket_is_reached_however_long_its_folders_path_is(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        with short_address(folder / "here.sock") as address:
            listener.bind(address)
        listener.listen()
        dial(folder / "here.sock").close()
    with pytest.raises(ConnectionRefusedError):
        dial(folder / "here.sock")
    with pytest.raises(FileNotFoundError):
        dial(folder / "nowhere.sock")
