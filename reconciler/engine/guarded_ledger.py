"""The ledger as everybody uses it: the one place where a failure of it becomes known.

Whoever asks or writes may pass a LedgerError on, or live with it; that it happened is counted, logged,
an alert in `status`, and a reason for `/readyz` to say no, until a write succeeds again.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from reconciler.clock import Clock
from reconciler.engine.interfaces import Ledger
from reconciler.engine.metering import Meter
from reconciler.errors import LedgerError
from reconciler.model.change import Change
from reconciler.model.event import Event
from reconciler.model.record import Intent, Record

log = logging.getLogger(__name__)
T = TypeVar("T")

CHECKED_EVERY = 10.0
"""Seconds between looks at a ledger that nothing is written to."""
LOGGED_EVERY = 60.0
"""Seconds between lines about the same trouble while it lasts."""
MEANS = {
    "write": "pushes and requests are not taken, and nothing is started or stopped, until it can be written",
    "read": "events cannot be read",
}


class WholeLedger(Ledger, Protocol):
    """With what couriers of notifications ask of it, too."""

    async def open_cursors(self, names: Iterable[str]) -> Mapping[str, int]: ...

    async def advance(self, name: str, sequence: int) -> None: ...


@dataclass
class _Trouble:
    since_boot: float
    words: str
    logged_boot: float
    failures: int = 1


class GuardedLedger:
    """Passes everything on, and remembers what fails. Satisfies `Ledger` and the notifier's `Outbox`."""

    def __init__(self, ledger: WholeLedger, meter: Meter, clock: Clock) -> None:
        self._ledger = ledger
        self._meter = meter
        self._clock = clock
        self._troubles: dict[str, _Trouble] = {}
        self._checked = clock.now().boot
        self.alerts: tuple[str, ...] = ()
        """What is wrong with it now, for people; empty while all is well."""

    def record(self) -> Record:
        return self._ledger.record()

    async def write(self, changes: Iterable[Change]) -> Record:
        batch = tuple(changes)
        if not batch:
            return self._ledger.record()
        return await self._watched("write", self._ledger.write(batch))

    async def events(self, after: int, limit: int) -> list[Event]:
        return await self._watched("read", self._ledger.events(after, limit))

    async def latest_events(self, limit: int) -> list[Event]:
        return await self._watched("read", self._ledger.latest_events(limit))

    async def intents_open(self) -> list[Intent]:
        return await self._watched("read", self._ledger.intents_open())

    async def open_cursors(self, names: Iterable[str]) -> Mapping[str, int]:
        return await self._watched("write", self._ledger.open_cursors(names))

    async def advance(self, name: str, sequence: int) -> None:
        await self._watched("write", self._ledger.advance(name, sequence))

    def subscribe(self, callback: Callable[[Event], None]) -> Callable[[], None]:
        return self._ledger.subscribe(callback)

    async def check(self) -> None:
        """Whether it could be written now, if that was not seen lately. Raises LedgerError."""
        if self._troubles or self._clock.now().boot - self._checked >= CHECKED_EVERY:
            await self._watched("write", self._ledger.check())

    async def _watched(self, op: str, work: Awaitable[T]) -> T:
        try:
            result = await work
        except LedgerError as error:
            self._failed(op, error)
            raise
        self._succeeded(op)
        return result

    def _failed(self, op: str, error: LedgerError) -> None:
        self._meter.state_failed(op)
        now, words = self._clock.now().boot, str(error)
        trouble = self._troubles.get(op)
        if trouble is None or trouble.words != words:
            since = trouble.since_boot if trouble else now
            self._troubles[op] = _Trouble(since, words, now, trouble.failures + 1 if trouble else 1)
            self._log(op, error)
        else:
            trouble.failures += 1
            if now - trouble.logged_boot >= LOGGED_EVERY:
                trouble.logged_boot = now
                self._log(op, error)
        self._tell()

    def _log(self, op: str, error: LedgerError) -> None:
        fields = {"op": op, "error": str(error), "hint": error.hint or None, "kind": error.kind}
        log.error("the ledger fails: %s", MEANS[op], extra={"fields": fields})

    def _succeeded(self, op: str) -> None:
        if op == "write":
            self._checked = self._clock.now().boot
        trouble = self._troubles.pop(op, None)
        if trouble is None:
            return
        lasted = round(self._clock.now().boot - trouble.since_boot, 1)
        fields = {"op": op, "seconds": lasted, "failures": trouble.failures}
        log.info("the ledger works again", extra={"fields": fields})
        self._tell()

    def _tell(self) -> None:
        self.alerts = tuple(
            f"ledger: {trouble.words}: {MEANS[op]}" for op, trouble in self._troubles.items()
        )
