"""What the couriers ask of the world."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from reconciler.model.event import Event
from reconciler.notify.message import Message


class Outbox(Protocol):
    """The ledger's events, which are written with the verdicts that they tell of."""

    async def open_cursors(self, names: Iterable[str]) -> Mapping[str, int]:
        """How far each of these sinks has come; a new one begins after the newest event.

        Forgets all others. Raises LedgerUnwritable.
        """
        ...

    async def advance(self, name: str, sequence: int) -> None:
        """Remember that a sink has all up to this event. Raises LedgerUnwritable."""
        ...

    async def events(self, after: int, limit: int) -> list[Event]: ...

    def subscribe(self, callback: Callable[[Event], None]) -> Callable[[], None]: ...


class Sink(Protocol):
    """Where messages of one entry of the config go."""

    async def send(self, message: Message) -> None:
        """Hand over one message. Raises DeliveryError; whoever calls sets the deadline."""
        ...

    async def close(self) -> None: ...


class Counts(Protocol):
    """Counts for the operator. Every method is cheap and never fails."""

    def notification_ended(self, sink: str, result: str) -> None:
        """result: delivered, failed (tried again) or dropped."""
        ...

    def notifications_waiting(self, sink: str, pending: int, oldest_wall: float) -> None:
        """`oldest_wall`: when the oldest that waits happened; 0 when none waits."""
        ...
