"""Files that a VMM may have replaced: no link is followed, nothing hangs, nothing of others is touched."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.control.console_tail import ConsoleReader
from reconciler.errors import DriverError
from reconciler.host import layout
from reconciler.model.names import GenerationNumber, InstanceId, VMName
from reconciler.model.observed import Process
from reconciler.supervisor import console, guest_file
from reconciler.supervisor.announcements import Listener
from reconciler.supervisor.spawn import fresh_log
from reconciler.untrusted_file import appending, reading, replacing
from reconciler.vmm.volumes import growth
from reconciler.vmm.volumes.files import VolumeFiles

pytestmark = pytest.mark.shows(fault=40)

PRECIOUS = "the ledger\n" * 1000


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    path = tmp_path / "precious"
    path.write_text(PRECIOUS)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "vms" / "web"
    (made / "run").mkdir(parents=True)
    return made


def as_link(path: Path, precious: Path) -> None:
    path.symlink_to(precious)


def as_pipe(path: Path, precious: Path) -> None:  # noqa: ARG001 - as the others
    os.mkfifo(path)


def as_dangling_link(path: Path, precious: Path) -> None:
    path.symlink_to(precious.with_name("made-by-following"))


def as_socket(path: Path, precious: Path) -> None:  # noqa: ARG001 - as the others
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))


Put = Callable[[Path, Path], None]
ODD = pytest.mark.parametrize("put", [as_link, as_pipe, as_dangling_link, as_socket])


@pytest.fixture(autouse=True)
def untouched(precious: Path, tmp_path: Path) -> object:
    yield
    assert precious.read_text() == PRECIOUS
    assert not (tmp_path / "made-by-following").exists()


@ODD
@pytest.mark.parametrize("name", layout.LOGS)
def test_a_log_that_is_none_is_neither_read_nor_cut(
    folder: Path, precious: Path, put: Put, name: str
) -> None:
    put(folder / name, precious)
    console.bound(folder, 100)
    assert console.last_words(folder, "i").lines == ()
    assert ConsoleReader(folder / name).tail(10) == b""
    assert Listener(folder, "i").listen(0.0) is False


@ODD
def test_a_start_puts_real_logs_in_the_place_of_what_is_none(
    folder: Path, precious: Path, put: Put
) -> None:
    put(folder / layout.CONSOLE, precious)
    put(folder / layout.VMM_LOG, precious)
    console.announce(folder, "i", 1)
    fresh_log(folder / layout.VMM_LOG).close()
    for name in layout.LOGS:
        assert (folder / name).is_file()
        assert not (folder / name).is_symlink()
    assert "instance i" in (folder / layout.CONSOLE).read_text()


@ODD
def test_the_copy_of_a_log_goes_where_nothing_was_laid_out(
    folder: Path, precious: Path, put: Put
) -> None:
    put(folder / ".console.log.tmp", precious)
    (folder / layout.CONSOLE).write_text("x" * 200)
    console.bound(folder, 100)
    assert (folder / "console.log.1").read_text() == "x" * 100
    assert (folder / layout.CONSOLE).stat().st_size == 0


@ODD
def test_what_a_daemon_left_of_a_guest_is_neither_read_nor_written_through_a_link(
    folder: Path, precious: Path, put: Put
) -> None:
    put(layout.guest_file(folder), precious)
    put(folder / f"run/.guest.json.{os.getpid()}.tmp", precious)
    assert guest_file.read(folder) is None
    process = Process(
        VMName("web"), InstanceId("i"), GenerationNumber(1), 7, 1, 1.0, hypervisor="qemu"
    )
    guest_file.write(folder, process, "boot")
    found = guest_file.read(folder)
    assert found is not None
    assert found.pid == 7


@ODD
async def test_a_volume_that_is_none_is_not_copied_and_not_grown(
    folder: Path, precious: Path, put: Put
) -> None:
    volume, copy = folder / "volumes/data", folder / "snapshots/data"
    volume.parent.mkdir()
    put(volume, precious)
    if put is not as_dangling_link:  # there is none then
        with pytest.raises(DriverError):
            await VolumeFiles().snapshot([(str(volume), str(copy))])
    with pytest.raises(OSError, match=r"."):
        growth.filesystem_bytes(volume)
    assert not copy.exists()


def test_plain_files_are_read_appended_to_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with appending(path) as file:
        file.write(b"one\n")
    with appending(path) as file:
        file.write(b"two\n")
    with reading(path) as file:
        assert file.read() == b"one\ntwo\n"
    with replacing(path) as file:
        file.write(b"three\n")
    assert path.read_bytes() == b"three\n"
    assert path.stat().st_mode & 0o777 == 0o600
