"""What every ledger does, whatever it is made of."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from reconciler.engine.interfaces import Ledger
from reconciler.ledger.sqlite import SqliteLedger, open_ledger
from reconciler.model.change import (
    AddEvent,
    BeginIntent,
    DropBuild,
    DropGroup,
    DropVM,
    EndIntent,
    PutSuspension,
    PutVM,
    apply,
)
from reconciler.model.event import Event
from reconciler.model.names import GroupName, VMName
from reconciler.model.record import Intent, Record
from tests.fakes.clock import FakeClock
from tests.fakes.faults import Faults
from tests.fakes.ledger import FakeLedger
from tests.unit.ledger.ledger_samples import StillClock, event, everything, vm_record

Close = Callable[[], Awaitable[None]]


def sqlite(folder: Path) -> tuple[Ledger, Close]:
    ledger: SqliteLedger = open_ledger(folder / "ledger.db", StillClock()).ledger
    return ledger, ledger.close


def fake(_: Path) -> tuple[Ledger, Close]:
    async def close() -> None:
        """It holds nothing open."""

    return FakeLedger(Faults(FakeClock())), close


# Every implementation of the port takes its place here: a fake is as honest as this list is long.
IMPLEMENTATIONS = {"fake": fake, "sqlite": sqlite}


@pytest.fixture(params=sorted(IMPLEMENTATIONS))
async def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ledger]:
    made, close = IMPLEMENTATIONS[request.param](tmp_path)
    yield made
    await close()


async def test_a_new_ledger_remembers_nothing(ledger: Ledger) -> None:
    assert ledger.record() == Record()
    assert await ledger.events(0, 100) == []
    assert await ledger.intents_open() == []


async def test_a_write_answers_with_the_record_after_it(ledger: Ledger) -> None:
    expected = apply(Record(), everything())
    assert await ledger.write(everything()) == expected
    assert ledger.record() == expected


async def test_what_is_put_again_is_replaced_and_what_is_dropped_is_gone(ledger: Ledger) -> None:
    await ledger.write(everything())
    changed = vm_record("web", 1)
    record = await ledger.write(
        [
            PutVM(changed),
            DropVM(VMName("db")),
            DropGroup(GroupName("front")),
            DropBuild("k" * 64),
            PutSuspension(None),
        ]
    )
    assert record.vms == {"web": changed, "cache": vm_record("cache")}
    assert (record.groups, record.builds, record.suspended) == ({}, {}, None)


async def test_dropping_what_is_not_there_is_no_error(ledger: Ledger) -> None:
    record = await ledger.write(
        [DropVM(VMName("ghost")), DropBuild("k"), EndIntent("ghost", "done")]
    )
    assert record == Record()


async def test_the_last_change_of_one_write_wins(ledger: Ledger) -> None:
    first, last = vm_record("web", 1), vm_record("web", 3)
    record = await ledger.write([PutVM(first), DropVM(first.name), PutVM(last)])
    assert record.vms == {"web": last}


async def test_a_record_that_was_handed_out_does_not_change(ledger: Ledger) -> None:
    before = ledger.record()
    await ledger.write(everything())
    assert before == Record()


async def test_writing_nothing_changes_nothing(ledger: Ledger) -> None:
    before = await ledger.write(everything())
    assert await ledger.write([]) is before


async def test_events_are_numbered_from_one_and_read_in_order(ledger: Ledger) -> None:
    await ledger.write([AddEvent(event("one")), AddEvent(event("two"))])
    await ledger.write([AddEvent(event("three"))])
    found = await ledger.events(0, 100)
    assert [(each.sequence, each.message) for each in found] == [
        (1, "one"),
        (2, "two"),
        (3, "three"),
    ]
    assert [each.sequence for each in await ledger.events(1, 1)] == [2]
    assert await ledger.events(3, 100) == []
    assert await ledger.latest_events(2) == found[-2:]
    assert await ledger.latest_events(100) == found


async def test_a_subscriber_hears_of_each_event_in_order_until_it_ends(ledger: Ledger) -> None:
    heard: list[Event] = []
    end = ledger.subscribe(heard.append)
    await ledger.write([AddEvent(event("one")), AddEvent(event("two"))])
    await ledger.write([PutVM(vm_record("web"))])
    assert heard == await ledger.events(0, 100)
    end()
    await ledger.write([AddEvent(event("three"))])
    assert [each.message for each in heard] == ["one", "two"]


@pytest.mark.shows(law=4)
async def test_an_intent_is_open_until_it_ends(ledger: Ledger) -> None:
    first, second = Intent("i1", "start", "web", 5.0), Intent("i2", "stop", "db", 6.0)
    await ledger.write([BeginIntent(first), BeginIntent(second)])
    assert await ledger.intents_open() == [first, second]
    await ledger.write([EndIntent("i1", "done")])
    assert await ledger.intents_open() == [second]
    await ledger.write([EndIntent("i1", "again"), EndIntent("i2", "interrupted")])
    assert await ledger.intents_open() == []


@pytest.mark.shows(law=4)
async def test_beginning_an_intent_twice_is_beginning_it_once(ledger: Ledger) -> None:
    intent = Intent("i1", "start", "web", 5.0)
    await ledger.write([BeginIntent(intent)])
    await ledger.write([BeginIntent(intent)])
    assert await ledger.intents_open() == [intent]
