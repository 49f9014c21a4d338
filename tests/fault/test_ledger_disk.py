"""A disk that is full, broken or read-only, and a daemon that dies: nothing acknowledged is lost."""

import asyncio
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.errors import LedgerUnwritable
from reconciler.ledger import schema
from reconciler.ledger.sqlite import open_ledger
from reconciler.model.change import PutSuspension, PutVM, apply
from reconciler.model.record import Record, Suspension
from tests.fault.ledger_child import step
from tests.unit.ledger.ledger_samples import StillClock, as_text, everything, vm_record

pytestmark = [pytest.mark.shows(row=18), pytest.mark.shows(row=20), pytest.mark.shows(row=21)]

ROOT = Path(__file__).resolve().parents[2]
EXPECTED = apply(Record(), everything())


def child(role: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.fault.ledger_child", role, path],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def lines_of(role: str, path: Path) -> list[str]:
    with child(role, path) as process:
        out, _ = process.communicate(timeout=50)
    assert process.returncode == 0
    return out.splitlines()


def test_every_acknowledged_write_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    chance = random.Random(11)  # noqa: S311 - when to kill is no secret
    shadow, done, acknowledged = Record(), 0, 0
    for _ in range(12):
        with child("write", path) as process:
            assert process.stdout is not None
            for _ in range(chance.randint(1, 25)):
                acknowledged = int(process.stdout.readline())
            threading.Event().wait(chance.random() * 0.004)  # somewhere within the next writes
            process.send_signal(signal.SIGKILL)
            for line in process.stdout.read().split("\n")[:-1]:
                acknowledged = int(line)
        opened = open_ledger(path, StillClock())
        assert opened.recovered is None
        (newest,) = asyncio.run(opened.ledger.latest_events(1))
        now = int(newest.message)
        # The last write may have been durable before its caller could say so.
        assert acknowledged <= now <= acknowledged + 1
        for number in range(done + 1, now + 1):
            shadow = apply(shadow, tuple(step(number)))
        done = now
        assert as_text(opened.ledger.record()) == as_text(shadow)
        assert [each.id for each in asyncio.run(opened.ledger.intents_open())] == [f"i{now}"]
        asyncio.run(opened.ledger.close())


def test_out_of_space_nothing_is_half_done_and_writing_resumes_by_itself(tmp_path: Path) -> None:
    *refusals, resumed, reopened = lines_of("space", tmp_path / "ledger.db")
    assert len(refusals) == 3
    assert set(refusals) <= {"full True", "io True"}
    assert resumed == "True"
    assert reopened == "None True"


@pytest.fixture
def forbidden() -> Iterator[Path]:
    """A folder with a ledger, in which only root may write, below none that others may not enter."""
    folder = Path(tempfile.mkdtemp(prefix="ledger-"))

    async def write() -> None:
        ledger = open_ledger(folder / "ledger.db", StillClock()).ledger
        await ledger.write(everything())
        await ledger.close()

    asyncio.run(write())
    yield folder
    folder.chmod(0o700)
    shutil.rmtree(folder)


def test_a_folder_that_cannot_be_written_is_no_damaged_ledger(forbidden: Path) -> None:
    (forbidden / "ledger.db").chmod(0o444)
    forbidden.chmod(0o555)
    if os.geteuid() != 0:
        with pytest.raises(LedgerUnwritable) as caught:
            open_ledger(forbidden / "ledger.db", StillClock())
        assert caught.value.kind == "read-only"
    else:
        assert lines_of("nobody", forbidden / "ledger.db") == ["read-only True"]
    assert [each.name for each in forbidden.glob("*corrupt*")] == []


async def test_a_full_database_refuses_and_keeps_memory_as_it_was(tmp_path: Path) -> None:
    room = [16]

    def connect(path: Path) -> sqlite3.Connection:
        connection = schema.connect(path)
        connection.execute(f"PRAGMA max_page_count = {room[0]}")
        return connection

    ledger = open_ledger(tmp_path / "ledger.db", StillClock(), connect=connect).ledger
    many = [PutVM(vm_record(f"vm-{number}")) for number in range(50)]
    for _ in range(2):
        with pytest.raises(LedgerUnwritable) as caught:
            await ledger.write(many)
        assert caught.value.kind == "full"
        assert "free space" in caught.value.hint
        assert ledger.record() == Record()
    room[0] = 1_000_000
    assert len((await ledger.write(many)).vms) == 50
    await ledger.close()


class Disk:
    """Makes connections whose next commit fails to reach the disk, or seems to."""

    def __init__(self) -> None:
        self.failing = ""
        self.opened = 0

    def connect(self, path: Path) -> sqlite3.Connection:
        if self.failing == "open":
            raise io_error()
        self.opened += 1
        disk = self

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:
                if sql == "COMMIT" and disk.failing == "before":
                    raise io_error()
                done = super().execute(sql, *parameters)  # type: ignore[arg-type]
                if sql == "COMMIT" and disk.failing == "after":
                    raise io_error()
                return done

        connection = sqlite3.connect(
            path, factory=Connection, isolation_level=None, check_same_thread=False
        )
        connection.text_factory = bytes
        return connection


def io_error() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
    return error


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_after_a_failed_sync_the_record_is_read_again_before_the_next_write(
    tmp_path: Path, moment: str
) -> None:
    disk = Disk()
    ledger = open_ledger(tmp_path / "ledger.db", StillClock(), connect=disk.connect).ledger
    await ledger.write(everything())

    disk.failing = moment
    with pytest.raises(LedgerUnwritable) as caught:
        await ledger.write([PutVM(vm_record("uncertain"))])
    assert caught.value.kind == "io"
    assert ledger.record() == EXPECTED

    disk.failing = "open"
    with pytest.raises(LedgerUnwritable):
        await ledger.write([PutSuspension(None)])
    with pytest.raises(LedgerUnwritable):
        await ledger.events(0, 1)
    assert ledger.record() == EXPECTED

    disk.failing = ""
    record = await ledger.write([PutSuspension(Suspension(1.0, "later"))])
    assert disk.opened == 2
    # Whichever way it ended, memory is now what the disk has.
    assert ("uncertain" in record.vms) == (moment == "after")
    await ledger.close()
    again = open_ledger(tmp_path / "ledger.db", StillClock()).ledger
    assert again.record() == record
    await again.close()


async def test_damage_under_a_running_daemon_stops_writing_and_keeps_memory(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    disk = Disk()
    ledger = open_ledger(path, StillClock(), connect=disk.connect).ledger
    await ledger.write(everything())
    disk.failing = "before"
    with pytest.raises(LedgerUnwritable):
        await ledger.write([PutSuspension(None)])
    disk.failing = ""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("UPDATE vms SET checksum = checksum + 1")
    other.close()
    with pytest.raises(LedgerUnwritable) as caught:
        await ledger.write([PutSuspension(None)])
    assert caught.value.kind == "corrupt"
    assert "restart" in caught.value.hint
    assert ledger.record() == EXPECTED
    await ledger.close()


def test_a_disk_that_fails_while_opening_is_no_damaged_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    asyncio.run(open_ledger(path, StillClock()).ledger.close())
    disk = Disk()
    disk.failing = "open"
    with pytest.raises(LedgerUnwritable) as caught:
        open_ledger(path, StillClock(), connect=disk.connect)
    assert caught.value.kind == "io"
    assert [each.name for each in tmp_path.glob("*corrupt*")] == []
    asyncio.run(open_ledger(path, StillClock()).ledger.close())


@pytest.mark.shows(fault=54)
@pytest.mark.parametrize("replaced", [False, True])
async def test_no_acknowledged_write_is_lost_with_a_log_that_was_deleted_under_the_daemon(
    replaced: bool,  # noqa: FBT001
    tmp_path: Path,
) -> None:
    path, after_a_kill = tmp_path / "ledger.db", tmp_path / "after a kill"
    log = path.with_name("ledger.db-wal")
    ledger = open_ledger(path, StillClock()).ledger
    await ledger.write([PutVM(vm_record("before"))])
    log.rename(tmp_path / "former")
    if replaced:
        shutil.copy(tmp_path / "former", log)
    with pytest.raises(LedgerUnwritable, match="-wal was deleted or replaced") as refused:
        await ledger.check()
    assert refused.value.kind == "moved"
    await ledger.check()
    await ledger.write([PutVM(vm_record("after"))])
    after_a_kill.mkdir()
    for one in (path, log):
        shutil.copy(one, after_a_kill)
    left = open_ledger(after_a_kill / "ledger.db", StillClock())
    assert (left.recovered, sorted(left.ledger.record().vms)) == (None, ["after", "before"])
    await left.ledger.close()
    await ledger.close()
