"""The interfaces that deliveries need: the ledger's events, a sink, and counters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from reconciler.model.event import Event
from reconciler.notify.message import Message


class Outbox(Protocol):
    """The ledger's events, which are written in one transaction with what they report."""

    async def open_cursors(self, names: Iterable[str]) -> Mapping[str, int]:
        """The sequence up to which each sink has its events; a new sink starts after the newest one.

        Positions of all other sinks are dropped. Raises LedgerUnwritable.
        """
        ...

    async def advance(self, name: str, sequence: int) -> None:
        """Record that a sink has all events up to this one. Raises LedgerUnwritable."""
        ...

    async def events(self, after: int, limit: int) -> list[Event]:
        """At most `limit` events after a sequence, oldest first. Raises LedgerUnwritable."""
        ...

    def subscribe(self, callback: Callable[[Event], None]) -> Callable[[], None]:
        """Call back with each new event; returns a function that ends this."""
        ...


class Sink(Protocol):
    """The receiver that one entry of the config describes."""

    async def send(self, message: Message) -> None:
        """Send one message. Raises DeliveryError; the caller sets the deadline."""
        ...

    async def close(self) -> None:
        """Release connections and threads."""
        ...


class Counts(Protocol):
    """Counts for the operator. Every method is cheap and never fails."""

    def notification_ended(self, sink: str, result: str) -> None:
        """result: delivered, failed (tried again) or dropped."""
        ...

    def notifications_waiting(self, sink: str, pending: int, oldest_wall: float) -> None:
        """`oldest_wall`: unix time of the oldest queued event; 0 if the queue is empty."""
        ...
