"""How an older ledger becomes a newer one, and a newer one is refused."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from reconciler.errors import LedgerError, LedgerTooNew
from reconciler.ledger.codec import checksum, decode, encode
from reconciler.ledger.schema import MIGRATIONS, Migration, connect, create, migrate, version
from reconciler.ledger.sqlite import open_ledger
from reconciler.model.change import PutSuspension, apply
from reconciler.model.names import GroupName, InstanceId, VMName
from reconciler.model.record import Record, VMRecord
from tests.unit.ledger.ledger_samples import StillClock, everything

pytestmark = pytest.mark.shows(row=17)


def add_notes(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE notes (text TEXT)")


def forget_caches(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM vms WHERE key = 'cache'")


def fail_halfway(connection: sqlite3.Connection) -> None:
    connection.execute("DROP TABLE vms")
    connection.execute("SELECT colour FROM vms_of_old")


LATER: tuple[Migration, ...] = (*MIGRATIONS, add_notes, forget_caches)


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A ledger of the present version, with a record."""
    path = tmp_path / "ledger.db"

    async def write() -> None:
        ledger = open_ledger(path, StillClock()).ledger
        await ledger.write(everything())
        await ledger.close()

    asyncio.run(write())
    return path


def version_of(path: Path) -> int | None:
    connection = sqlite3.connect(path)
    connection.text_factory = bytes
    try:
        return version(connection)
    finally:
        connection.close()


async def test_a_new_ledger_has_the_newest_version(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    await open_ledger(path, StillClock()).ledger.close()
    assert version_of(path) == len(MIGRATIONS)


async def test_an_older_ledger_is_taken_through_every_step_and_keeps_its_record(
    older: Path,
) -> None:
    opened = open_ledger(older, StillClock(), migrations=LATER)
    assert opened.recovered is None
    assert version_of(older) == len(LATER)
    expected = apply(Record(), everything())
    assert opened.ledger.record().vms == {
        name: vm for name, vm in expected.vms.items() if name != "cache"
    }
    assert opened.ledger.record().groups == expected.groups
    await opened.ledger.write([PutSuspension(None)])
    await opened.ledger.close()
    again = open_ledger(older, StillClock(), migrations=LATER)
    assert again.recovered is None
    await again.ledger.close()


async def test_a_step_that_fails_leaves_the_ledger_at_the_version_before(older: Path) -> None:
    with pytest.raises(LedgerError, match="no such table"):
        open_ledger(older, StillClock(), migrations=(*MIGRATIONS, add_notes, fail_halfway))
    assert version_of(older) == len(MIGRATIONS) + 1
    opened = open_ledger(older, StillClock(), migrations=(*MIGRATIONS, add_notes))
    assert opened.ledger.record() == apply(Record(), everything())
    await opened.ledger.close()


def test_a_newer_ledger_is_refused_and_not_touched(older: Path) -> None:
    asyncio.run(open_ledger(older, StillClock(), migrations=LATER).ledger.close())
    before = older.read_bytes()
    with pytest.raises(LedgerTooNew, match=r"version 5.*knows 3") as caught:
        open_ledger(older, StillClock())
    assert "newer version" in caught.value.hint
    assert older.read_bytes() == before
    assert [each.name for each in older.parent.glob("*corrupt*")] == []


def test_migrating_what_is_newest_does_nothing() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, 0)
    before = connection.total_changes
    migrate(connection, len(MIGRATIONS))
    assert connection.total_changes == before
    connection.close()


async def test_a_transfer_under_way_when_version_2_stopped_is_known_to_version_3(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ledger.db"
    row = VMRecord(VMName("web"), GroupName(""), pending_transfer=InstanceId("web-1-a"))
    former = encode(row).replace('"pending_transfer"', '"taking"')
    rows = {"web": checksum("vms", "web", former.encode()), "hit": 1}
    create(path, MIGRATIONS[:2])
    with sqlite3.connect(path) as connection:
        connection.executemany(
            "INSERT INTO vms VALUES (?, ?, ?)", [(name, former, rows[name]) for name in rows]
        )
    connection.close()
    connection = connect(path)
    migrate(connection, 2)
    kept = {
        bytes(key): bytes(body) for key, body in connection.execute("SELECT key, body FROM vms")
    }
    connection.close()
    assert decode(VMRecord, kept[b"web"]) == row
    assert kept[b"hit"] == former.encode(), "a damaged row is left for recovery to find"
