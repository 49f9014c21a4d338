"""A ledger in memory, which survives the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from reconciler.errors import LedgerUnwritable, SupervisorError
from reconciler.model.change import (
    AddEvent,
    BeginIntent,
    Change,
    EndIntent,
    apply,
)
from reconciler.model.event import Event
from reconciler.model.record import Intent, Record
from tests.fakes.faults import Fault, Faults


class FakeLedger:
    """Durable in memory: a test keeps it when it throws the engine away."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self._record = Record()
        self.writes = 0
        self.history: list[Event] = []
        self.intents: dict[str, Intent] = {}
        self.ends: dict[str, str] = {}
        self._subscribers: list[Callable[[Event], None]] = []
        self.failing: Exception | None = None

    def record(self) -> Record:
        return self._record

    async def write(self, changes: Iterable[Change]) -> Record:
        batch = tuple(changes)
        if self.failing is not None:
            raise self.failing
        if not batch:
            return self._record
        fault = await self._before_write()
        self.writes += 1
        for change in batch:
            match change:
                case AddEvent(event):
                    stored = replace(event, sequence=len(self.history) + 1)
                    self.history.append(stored)
                    for subscriber in self._subscribers:
                        subscriber(stored)
                case BeginIntent(intent):
                    self.intents[intent.id] = intent
                case EndIntent(key, outcome):
                    self.ends[key] = outcome
                case _:
                    pass
        self._record = apply(self._record, batch)
        self.faults.after("write", fault)
        return self._record

    async def _before_write(self) -> Fault | None:
        try:
            return await self.faults.before("write")
        except SupervisorError as error:
            raise LedgerUnwritable(str(error)) from error

    async def events(self, after: int, limit: int) -> list[Event]:
        return [e for e in self.history if e.sequence > after][:limit]

    async def latest_events(self, limit: int) -> list[Event]:
        return self.history[-limit:]

    async def intents_open(self) -> list[Intent]:
        return [i for key, i in self.intents.items() if key not in self.ends]

    async def check(self) -> None:
        if self.failing is not None:
            raise self.failing

    async def open_cursors(self, names: Iterable[str]) -> dict[str, int]:
        return dict.fromkeys(names, 0)

    async def advance(self, name: str, sequence: int) -> None:
        pass

    def subscribe(self, callback: Callable[[Event], None]) -> Callable[[], None]:
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)
