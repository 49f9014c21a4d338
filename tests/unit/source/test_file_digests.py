"""Digests of files of the host: read once, and again after any change."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from reconciler.source.manifests.file_digests import FileDigests
from reconciler.source.manifests.revision_files import FileRefused
from tests.wait import wait_until


def digest(digests: FileDigests, file: Path, flags: int = os.O_RDONLY) -> str:
    descriptor = os.open(file, flags)
    try:
        return digests.of(str(file), descriptor)
    finally:
        os.close(descriptor)


def test_a_file_that_stays_is_not_read_again(tmp_path: Path) -> None:
    digests, file = FileDigests(), tmp_path / "kernel"
    file.write_bytes(b"one" * 1_000_000)
    found = digest(digests, file)
    assert found == hashlib.sha256(b"one" * 1_000_000).hexdigest()
    assert digest(digests, file, os.O_WRONLY) == found, "which nothing can be read through"


def test_other_bytes_of_the_same_size_and_time_are_noticed(tmp_path: Path) -> None:
    digests, file = FileDigests(), tmp_path / "kernel"
    file.write_bytes(b"one")
    os.utime(file, (1, 1))
    before = digest(digests, file)
    changed_ns = file.stat().st_ctime_ns

    def write_in_another_tick() -> bool:
        with file.open("r+b") as same:
            same.write(b"two")
        os.utime(file, (1, 1))
        return file.stat().st_ctime_ns != changed_ns

    wait_until(write_in_another_tick, 10)
    assert digest(digests, file) == hashlib.sha256(b"two").hexdigest() != before


def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "kernel"
    file.write_bytes(b"one")
    with pytest.raises(FileRefused, match="kernel cannot be read: Bad file descriptor"):
        digest(FileDigests(), file, os.O_WRONLY)
