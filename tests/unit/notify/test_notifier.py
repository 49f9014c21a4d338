"""Delivery: in order, over restarts, and in nobody's way. The ledger is real."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from reconciler.config import AlertmanagerConfig
from reconciler.errors import DeliveryError, LedgerUnwritable
from reconciler.ledger import cursors
from reconciler.ledger.sqlite import SqliteLedger, open_ledger
from reconciler.model.change import AddEvent, PutSuspension
from reconciler.model.event import Event
from reconciler.model.names import VMName
from reconciler.notify import delivery
from reconciler.notify.delivery import LONGEST_PAUSE
from reconciler.notify.notifier import Notifier
from reconciler.notify.registry import SinkKinds
from tests.eventually import eventually
from tests.fakes.clock import FakeClock
from tests.fakes.sink import FakeCounts, FakeSink
from tests.unit.notify.stories import sinks

pytestmark = pytest.mark.shows(row=59)


class Host:
    """A ledger and notifiers on it, one life after the other."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.ledger: SqliteLedger = open_ledger(folder / "ledger.db", self.clock).ledger
        self.sinks: dict[str, FakeSink] = {}
        self.counts = FakeCounts()
        self.crashes = 0

    def sink(self, name: str) -> FakeSink:
        return self.sinks.setdefault(name, FakeSink())

    @contextlib.asynccontextmanager
    async def life(self, *names: str) -> AsyncIterator[Notifier]:
        """A daemon's life with these sinks; it ends as by kill -9, in the middle of anything."""
        configs = sinks(*({"name": n, "type": "alertmanager", "url": "http://x/"} for n in names))
        kinds: SinkKinds = {AlertmanagerConfig: lambda config, _: self.sink(config.name)}
        made = Notifier(configs, self.ledger, self.clock, self.counts, kinds)
        await made.open()
        running = asyncio.create_task(made.run())
        try:
            yield made
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def crash(self, *vms: str) -> None:
        """Events of an own condition each."""
        for vm in vms:
            event = Event(
                "guest-crashed", f"{vm}: ended", self.clock.now().wall, vm=VMName(vm),
                severity="warning",
            )  # fmt: skip
            await self.ledger.write([PutSuspension(None), AddEvent(event)])

    def told(self, name: str) -> list[str]:
        return [message.vm for message in self.sink(name).taken]

    async def remembered(self, *names: str) -> None:
        """Until the ledger knows that these sinks, and there are no others, have everything."""
        (newest,) = await self.ledger.latest_events(1)
        loop = asyncio.get_running_loop()
        until = loop.time() + 10.0
        while await self.ledger._ask(cursors.read) != dict.fromkeys(names, newest.sequence):
            assert loop.time() < until

    async def until(self, predicate: Callable[[], object]) -> None:
        """Until it is so, while pauses pass as fast as they are made."""

        def look() -> object:
            if found := predicate():
                return found
            self.clock.advance(LONGEST_PAUSE)
            return None

        await eventually(look)


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    host = Host(tmp_path)
    yield host
    await host.ledger.close()


async def test_events_are_told_in_their_order_to_every_sink(host: Host) -> None:
    async with host.life("a", "b"):
        await host.crash("one", "two", "three")
        await host.until(lambda: host.told("a") == host.told("b") == ["one", "two", "three"])
    assert host.counts.waiting == {"a": (0, 0.0), "b": (0, 0.0)}


async def test_a_new_sink_is_not_told_of_the_past_and_the_old_one_goes_on(host: Host) -> None:
    async with host.life("old"):
        await host.crash("one")
        await host.remembered("old")
    await host.crash("two")
    async with host.life("old", "new"):
        await host.crash("three")
        await host.until(lambda: host.told("new") and len(host.told("old")) == 3)
    assert host.told("new") == ["three"]
    assert host.told("old") == ["one", "two", "three"]


async def test_a_sink_that_was_taken_out_and_put_back_begins_anew(host: Host) -> None:
    async with host.life("a"):
        pass
    async with host.life("b"):
        await host.crash("one")
    async with host.life("a"):
        await host.crash("two")
        await host.until(lambda: host.told("a"))
    assert host.told("a") == ["two"]


async def test_what_was_not_delivered_is_told_by_the_next_daemon_under_the_same_id(
    host: Host,
) -> None:
    sink = host.sink("a")
    async with host.life("a"):
        await host.crash("one")
        await host.remembered("a")
        sink.hangs = True
        await host.crash("two", "three")
        await eventually(lambda: sink.asked == 2)
    sink.hangs = False
    before = sink.taken.copy()
    async with host.life("a"):
        await host.until(lambda: len(sink.taken) == 3)
    assert host.told("a") == ["one", "two", "three"]
    assert sink.taken[:1] == before


async def test_a_condition_that_was_told_before_a_restart_ends_after_it(host: Host) -> None:
    async with host.life("a"):
        await host.crash("one")
        await host.remembered("a")
    async with host.life("a"):
        await host.crash("one")  # still: no second message
        over = Event("guest-recovered", "steady", host.clock.now().wall, vm=VMName("one"))
        await host.ledger.write([AddEvent(over)])
        await host.until(lambda: len(host.told("a")) == 2)
    first, last = host.sink("a").taken
    assert last.ends == (first,)


async def test_a_dead_sink_and_a_hanging_one_delay_no_other_and_no_write(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "DEADLINE", 0.01)
    host.sink("dead").error = DeliveryError("connection refused")
    host.sink("hangs").hangs = True
    async with host.life("dead", "hangs", "good"):
        await host.crash("one", "two")
        await host.until(lambda: host.told("good") == ["one", "two"])
        await host.until(lambda: host.sink("dead").asked > 5 and host.sink("hangs").asked > 5)
        assert host.counts.waiting["dead"][0] == host.counts.waiting["hangs"][0] == 2
        assert host.counts.waiting["dead"][1] == 1_700_000_000.0
        host.sink("dead").error = None
        await host.until(lambda: host.told("dead") == ["one", "two"])
    assert ("hangs", "failed") in host.counts.ended
    assert ("good", "failed") not in host.counts.ended


async def test_a_refused_message_does_not_stand_in_the_way_of_the_next(host: Host) -> None:
    sink = host.sink("a")
    sink.error = DeliveryError("HTTP 400", kind="refused")
    async with host.life("a"):
        await host.crash("one")
        await host.until(lambda: host.counts.ended == [("a", "dropped")])
        sink.error = None
        await host.crash("two")
        await host.remembered("a")
    async with host.life("a"):
        await host.crash("three")
        await host.until(lambda: host.told("a") == ["two", "three"])


async def test_a_bug_in_a_sink_costs_one_message_and_no_daemon(host: Host) -> None:
    host.sink("a").error = KeyError("a bug")
    async with host.life("a"):
        await host.crash("one")
        await host.until(lambda: host.counts.ended == [("a", "dropped")])
        host.sink("a").error = None
        await host.crash("two")
        await host.until(lambda: host.told("a") == ["two"])


@pytest.mark.shows(row=59)
async def test_the_oldest_is_dropped_and_counted_when_too_many_wait(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "MOST_WAITING", 3)
    host.sink("a").error = DeliveryError("no route")
    async with host.life("a"):
        await host.crash("one", "two", "three", "four", "five")
        await host.until(lambda: host.counts.ended.count(("a", "dropped")) == 2)
        assert host.counts.waiting["a"][0] == 3
        host.sink("a").error = None
        await host.until(lambda: host.told("a") == ["three", "four", "five"])


async def test_when_nothing_happens_nothing_is_written(host: Host) -> None:
    async def changes() -> int:
        return await host.ledger._ask(lambda connection: connection.total_changes)

    async with host.life("a", "b"):
        start = await changes()
        await host.crash("one")
        after = await changes()
        assert after > start
        await host.remembered("a", "b")
    before = await changes()
    async with host.life("a", "b"):
        for _ in range(20):
            host.clock.advance(3600)
            await asyncio.sleep(0)
    assert await changes() == before


async def test_a_delivery_that_cannot_be_remembered_is_no_reason_to_stop(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(_: str, __: int) -> None:
        raise LedgerUnwritable("no space", kind="full")

    monkeypatch.setattr(host.ledger, "advance", full)
    async with host.life("a"):
        await host.crash("one", "two")
        await host.until(lambda: host.told("a") == ["one", "two"])


async def test_without_sinks_there_is_nothing_to_read_or_write(host: Host) -> None:
    async with host.life():
        await host.crash("one")
    assert host.counts.ended == []
