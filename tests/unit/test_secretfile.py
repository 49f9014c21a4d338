"""Secrets in files: what is of no use is named, and nothing is waited for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.errors import ConfigError
from reconciler.host import state_lock
from reconciler.secret_file import read_secret

KEY = "webhook.secret_file"
SECRET = "s" * 16


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "secret"


def test_the_space_around_a_secret_does_not_count(path: Path) -> None:
    path.write_text(f" {SECRET}\n")
    assert read_secret(KEY, path) == SECRET


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"short\n", "16 to 512 characters are needed, but it has 5"),
        (b"x" * 513, "16 to 512 characters are needed, but it has more"),
        (b"x" * 1_000_000, "but it has more"),
        ("ö" * 1_000_000, "but it has more"),
        (b"\xff" * 20, "is not text"),
    ],
)
def test_a_secret_of_no_use_is_told_with_key_file_and_reason(
    path: Path, content: bytes | str, why: str
) -> None:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=why) as caught:
        read_secret(KEY, path)
    assert str(caught.value).startswith(f"{KEY} {path}")
    assert caught.value.hint


def test_a_file_that_is_not_there_is_told(path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_secret(KEY, path)


def test_a_pipe_that_nobody_writes_to_is_not_waited_for(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="is empty"):
        read_secret(KEY, path)
    writer = os.open(path, os.O_RDWR)
    try:
        with pytest.raises(ConfigError, match="is empty"):
            read_secret(KEY, path)
    finally:
        os.close(writer)


@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_a_private_secret_may_be_read_by_its_owner_and_group(path: Path, mode: int) -> None:
    path.write_text(SECRET)
    path.chmod(mode)
    assert read_secret(KEY, path, private=True) == SECRET


def test_a_private_secret_that_everybody_can_read_is_refused(path: Path) -> None:
    path.write_text(SECRET)
    path.chmod(0o604)
    with pytest.raises(ConfigError, match="can be read by everyone") as caught:
        read_secret(KEY, path, private=True)
    assert caught.value.hint == f"chmod o= {path}"


@pytest.mark.shows(fault=33)
@pytest.mark.parametrize(("before", "after"), [(0o755, 0o750), (0o777, 0o770), (0o700, 0o700)])
def test_a_state_directory_that_was_there_is_closed_to_others(
    tmp_path: Path, before: int, after: int
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(before)
    with state_lock.held(state):
        assert state.stat().st_mode & 0o777 == after
