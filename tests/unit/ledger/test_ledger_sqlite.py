"""The ledger on sqlite: what holds of it beyond the contract."""

import asyncio
import shutil
import sqlite3
import stat
from pathlib import Path

import pytest

from reconciler.errors import LedgerError, LedgerUnwritable
from reconciler.ledger import rows
from reconciler.ledger.codec import checksum
from reconciler.ledger.sqlite import open_ledger
from reconciler.model.change import (
    AddEvent,
    BeginIntent,
    Change,
    EndIntent,
    PutSuspension,
    PutVM,
    apply,
)
from reconciler.model.record import Intent, Record, Suspension
from tests.unit.ledger.ledger_samples import StillClock, event, everything, vm_record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def query(path: Path, statement: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


async def test_the_record_is_there_after_reopening(path: Path) -> None:
    first = open_ledger(path, StillClock())
    assert first.recovered is None
    await first.ledger.write(everything())
    await first.ledger.close()
    again = open_ledger(path, StillClock())
    assert again.recovered is None
    assert again.ledger.record() == apply(Record(), everything())
    await again.ledger.close()


async def test_closing_twice_does_no_harm(path: Path) -> None:
    ledger = open_ledger(path, StillClock()).ledger
    await ledger.close()
    await ledger.close()


async def test_a_subscription_that_ended_can_end_again(path: Path) -> None:
    ledger = open_ledger(path, StillClock()).ledger
    end = ledger.subscribe(lambda _: None)
    end()
    end()
    await ledger.close()


async def test_only_its_owner_can_read_the_file(path: Path) -> None:
    ledger = open_ledger(path, StillClock()).ledger
    await ledger.write(everything())
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    await ledger.close()
    assert set(modes.values()) == {0o600}, modes


async def test_a_commit_waits_for_the_disk(path: Path) -> None:
    ledger = open_ledger(path, StillClock()).ledger
    assert ledger._connection is not None
    assert ledger._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert ledger._connection.execute("PRAGMA journal_mode").fetchone() == (b"wal",)
    await ledger.close()


async def test_old_events_are_forgotten_and_numbers_are_never_given_twice(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "EVENTS_KEPT", 10)
    ledger = open_ledger(path, StillClock()).ledger
    for number in range(8):
        await ledger.write([AddEvent(event(f"{number} {part}")) for part in "abc"])
    assert [each.sequence for each in await ledger.events(0, 100)] == list(range(15, 25))
    assert [each.sequence for each in await ledger.latest_events(2)] == [23, 24]
    await ledger.close()


async def test_ended_intents_are_forgotten_and_open_ones_never(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "INTENTS_KEPT", 5)
    ledger = open_ledger(path, StillClock()).ledger
    await ledger.write([BeginIntent(Intent("open", "start", "web", 1.0))])
    for number in range(20):
        await ledger.write([BeginIntent(Intent(f"i{number}", "stop", "db", 2.0))])
        await ledger.write([EndIntent(f"i{number}", "done")])
    assert [intent.id for intent in await ledger.intents_open()] == ["open"]
    await ledger.close()
    kept = query(path, "SELECT id, outcome FROM intents ORDER BY sequence")
    assert kept == [("open", None), *[(f"i{number}", "done") for number in range(15, 20)]]


async def test_the_end_of_an_intent_has_its_time_and_outcome(path: Path) -> None:
    clock = StillClock()
    ledger = open_ledger(path, clock).ledger
    await ledger.write([BeginIntent(Intent("i", "start", "web", clock.wall))])
    clock.wall += 7
    await ledger.write([EndIntent("i", "failed: \udcff")])
    await ledger.close()
    assert query(path, "SELECT ended_wall, outcome FROM intents") == [(clock.wall, "failed: ?")]


async def test_text_that_is_no_unicode_is_remembered_as_it_was_stored(path: Path) -> None:
    ledger = open_ledger(path, StillClock()).ledger
    broken: list[Change] = [
        PutSuspension(Suspension(1.0, "dis\udcffk")),
        AddEvent(event("a\udcff")),
    ]
    record = await ledger.write(broken)
    assert record.suspended == Suspension(1.0, "dis?k")
    await ledger.close()
    again = open_ledger(path, StillClock()).ledger
    assert again.record() == record
    assert [each.message for each in await again.events(0, 10)] == ["a?"]
    await again.close()


async def test_a_person_can_read_the_ledger_while_it_is_written(path: Path) -> None:
    ledger = open_ledger(path, StillClock()).ledger
    await ledger.write(everything())
    found = query(path, "SELECT key, json_extract(body, '$[0].hold.reason') FROM groups")
    assert found == [("front", "failed")]
    await ledger.write([PutVM(vm_record("web", 1))])
    await ledger.close()


async def test_a_write_whose_caller_gave_up_is_whole_or_absent(path: Path) -> None:
    ledger = open_ledger(path, StillClock()).ledger
    attempts = 30
    for number in range(attempts):
        task = asyncio.ensure_future(
            ledger.write([PutVM(vm_record(f"vm-{number}", 1)), AddEvent(event(f"{number}"))])
        )
        for _ in range(number % 4):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await ledger.write([AddEvent(event("the last"))])
    record = ledger.record()
    written = [each.message for each in await ledger.events(0, 100)][:-1]
    assert set(record.vms) == {f"vm-{number}" for number in written}
    await ledger.close()
    again = open_ledger(path, StillClock()).ledger
    assert again.record() == record
    await again.close()


async def test_writers_that_overlap_are_served_one_after_the_other(path: Path) -> None:
    ledger = open_ledger(path, StillClock()).ledger
    records = await asyncio.gather(
        *(ledger.write([PutVM(vm_record(f"vm-{number}", 1))]) for number in range(20))
    )
    assert sorted(len(record.vms) for record in records) == list(range(1, 21))
    assert len(ledger.record().vms) == 20
    await ledger.close()


async def test_a_file_that_was_moved_is_noticed_before_a_write_is_lost(path: Path) -> None:
    ledger = open_ledger(path, StillClock()).ledger
    await ledger.write(everything())
    shutil.move(path, f"{path}.elsewhere")
    with pytest.raises(LedgerUnwritable) as gone:
        await ledger.write([PutSuspension(None)])
    assert gone.value.hint
    shutil.copy(f"{path}.elsewhere", path)
    with pytest.raises(LedgerUnwritable) as replaced:
        await ledger.write([PutSuspension(None)])
    assert replaced.value.kind == "moved"
    assert ledger.record() == apply(Record(), everything())
    shutil.move(f"{path}.elsewhere", path)
    assert (await ledger.write([PutSuspension(None)])).suspended is None
    await ledger.close()


async def test_a_row_of_another_form_stops_the_daemon_and_is_not_thrown_away(path: Path) -> None:
    ledger = open_ledger(path, StillClock()).ledger
    await ledger.write(everything())
    await ledger.close()
    connection = sqlite3.connect(path, isolation_level=None)
    body = '[{"name": "web", "colour": "blue"}]'
    crc = checksum("vms", "web", body.encode())
    connection.execute("UPDATE vms SET body = ?, checksum = ? WHERE key = 'web'", (body, crc))
    connection.close()
    with pytest.raises(LedgerError, match="cannot be read") as caught:
        open_ledger(path, StillClock())
    assert not isinstance(caught.value, LedgerUnwritable)
    assert query(path, "SELECT count(*) FROM vms") == [(3,)]


async def test_an_event_that_was_damaged_is_left_out(path: Path) -> None:
    ledger = open_ledger(path, StillClock()).ledger
    await ledger.write([AddEvent(event(name)) for name in ("one", "two", "three")])
    await ledger.close()
    query(path, "UPDATE events SET body = replace(body, 'two', 'TWO')")
    again = open_ledger(path, StillClock())
    assert again.recovered is None
    assert [each.message for each in await again.ledger.events(0, 10)] == ["one", "three"]
    await again.ledger.close()
