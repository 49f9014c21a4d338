"""Logs are cut by their bytes, as soon as they are too large: nobody's round is waited for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.host import layout
from reconciler.supervisor import console_watch
from reconciler.supervisor.console_watch import ConsoleWatch
from tests.wait import wait_until

pytestmark = pytest.mark.shows(fault=41)

MOST = 64 * 1024


@pytest.fixture
def watch() -> Iterator[ConsoleWatch]:
    made = ConsoleWatch(MOST)
    yield made
    made.close()


def write(path: Path, size: int) -> None:
    with path.open("ab") as log:
        log.write(b"x" * size)


def small(path: Path) -> bool:
    return path.stat().st_size <= MOST


@pytest.mark.parametrize("name", layout.LOGS)
def test_a_log_that_grows_without_end_is_cut_again_and_again(
    watch: ConsoleWatch, tmp_path: Path, name: str
) -> None:
    for one in layout.LOGS:
        (tmp_path / one).touch()
    watch.add(tmp_path)
    with (tmp_path / name).open("ab", buffering=0) as log:  # as a VMM holds it
        for _ in range(20):
            log.write(b"y" * (2 * MOST))
            wait_until(lambda: small(tmp_path / name), 20, "it is cut")
    assert (tmp_path / f"{name}.1").stat().st_size <= MOST


def test_a_quiet_log_is_left_alone_and_its_end_is_kept_when_it_grows(
    watch: ConsoleWatch, tmp_path: Path
) -> None:
    path = tmp_path / layout.CONSOLE
    path.write_bytes(b"first\n")
    watch.add(tmp_path)
    write(path, MOST)
    with path.open("ab") as log:
        log.write(b"last\n")
    wait_until(lambda: small(path), 20, "it is cut")
    kept = (tmp_path / "console.log.1").read_bytes() + path.read_bytes()
    assert kept.endswith(b"last\n")


def test_a_log_that_is_made_later_is_bounded_too(
    watch: ConsoleWatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_watch, "UNWATCHED", 0.05)
    watch.add(tmp_path)
    write(tmp_path / layout.CONSOLE, 3 * MOST)
    wait_until(lambda: small(tmp_path / layout.CONSOLE), 20, "it is cut")


def test_guests_that_are_gone_are_not_looked_at(watch: ConsoleWatch, tmp_path: Path) -> None:
    gone, there = tmp_path / "gone", tmp_path / "there"
    for folder in (gone, there):
        folder.mkdir()
        (folder / layout.CONSOLE).touch()
        watch.add(folder)
    watch.remove(gone)
    write(gone / layout.CONSOLE, 2 * MOST)
    write(there / layout.CONSOLE, 2 * MOST)
    wait_until(lambda: small(there / layout.CONSOLE), 20, "it is cut")
    assert not small(gone / layout.CONSOLE)


@pytest.mark.shows(fault=57)
def test_it_may_be_closed_twice(watch: ConsoleWatch, tmp_path: Path) -> None:
    watch.add(tmp_path)
    watch.close()
    theirs = os.open(tmp_path, os.O_RDONLY)  # gets the lowest number that is free
    watch.close()
    os.close(theirs)
