"""Somebody who is told, and what is counted of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from reconciler.notify.message import Message


@dataclass
class FakeSink:
    """Takes messages; what it does to the next one is a test's choice."""

    taken: list[Message] = field(default_factory=list)
    error: Exception | None = None
    hangs: bool = False
    asked: int = 0
    closed: bool = False

    async def send(self, message: Message) -> None:
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        self.taken.append(message)

    async def close(self) -> None:
        self.closed = True


@dataclass
class FakeCounts:
    ended: list[tuple[str, str]] = field(default_factory=list)
    waiting: dict[str, tuple[int, float]] = field(default_factory=dict)

    def notification_ended(self, sink: str, result: str) -> None:
        self.ended.append((sink, result))

    def notifications_waiting(self, sink: str, pending: int, oldest_wall: float) -> None:
        self.waiting[sink] = (pending, oldest_wall)
