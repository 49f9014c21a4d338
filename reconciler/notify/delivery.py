"""One sink's queue: in order, tried until it is taken, and in nobody's way.

The queue is a place in the ledger's events: what is not delivered is there after any crash, and
told again. A message that was taken in the moment of a crash is told twice, under one id.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from reconciler.clock import Clock
from reconciler.errors import DeliveryError, LedgerError
from reconciler.model.event import Event
from reconciler.notify.message import Message
from reconciler.notify.selection import Digest
from reconciler.notify.sink_interface import Counts, Outbox, Sink

log = logging.getLogger(__name__)

DEADLINE = 15.0
"""Seconds for one attempt, from the name of the server to its answer."""
LONGEST_PAUSE = 300.0
MOST_WAITING = 1000
"""Messages that wait for one sink; past them the oldest is dropped, and counted."""

GIVEN_UP = ("refused", "unforeseen")


class Delivery:
    """Delivers to one sink. `begin` once, `take` each event in order, `run` until cancelled."""

    def __init__(
        self, name: str, sink: Sink, digest: Digest, outbox: Outbox, clock: Clock, counts: Counts
    ) -> None:
        self._name = name
        self._sink = sink
        self._digest = digest
        self._outbox = outbox
        self._clock = clock
        self._counts = counts
        self._waiting: deque[Message] = deque()
        self._awake = asyncio.Event()
        self._delivered = 0
        self._tried: Message
        self._failures = 0

    def begin(self, delivered: int) -> None:
        """All up to this event was delivered by an earlier daemon."""
        self._delivered = delivered
        self._show()

    def take(self, event: Event) -> None:
        message = self._digest.take(event)
        if message is None or event.sequence <= self._delivered:
            return
        self._waiting.append(message)
        if len(self._waiting) > MOST_WAITING:
            self._waiting.popleft()
            self._counts.notification_ended(self._name, "dropped")
        self._awake.set()
        self._show()

    async def run(self) -> None:
        """Deliver what waits, and what comes. Raises nothing but the unforeseen."""
        while True:
            while self._waiting:
                await self._deliver()
            self._awake.clear()
            await self._awake.wait()

    async def close(self) -> None:
        await self._sink.close()

    async def _deliver(self) -> None:
        """Until the sink has taken the oldest message, or refused it for good."""
        retrying = AsyncRetrying(
            wait=wait_random_exponential(multiplier=1.0, max=LONGEST_PAUSE),
            retry=retry_if_exception(is_passing),
            sleep=self._clock.sleep,
            before_sleep=self._failed,
            reraise=True,
        )
        result = "delivered"
        try:
            await retrying(self._attempt)
        except DeliveryError as error:
            result = "dropped"
            fields = {"sink": self._name, "id": self._tried.id, "error": str(error)}
            log.error("a notification was refused", extra={"fields": fields})
        if self._waiting and self._waiting[0] is self._tried:
            self._waiting.popleft()
        self._counts.notification_ended(self._name, result)
        self._answered()
        await self._remember(self._tried.sequence)

    async def _attempt(self) -> None:
        # The oldest at each attempt: what was dropped meanwhile is not told any more.
        self._tried = self._waiting[0]
        try:
            async with asyncio.timeout(DEADLINE):
                await self._sink.send(self._tried)
        except TimeoutError:
            raise DeliveryError(f"no answer within {DEADLINE:g} s", kind="timeout") from None
        except DeliveryError:
            raise
        except Exception as error:  # one message is no reason to end a daemon
            log.exception("a notification failed in an unforeseen way")
            raise DeliveryError(f"unforeseen: {error!r}", kind="unforeseen") from error

    def _failed(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        self._counts.notification_ended(self._name, "failed")
        self._failures += 1
        if self._failures == 1:
            hint = error.hint if isinstance(error, DeliveryError) else ""
            fields = {"sink": self._name, "error": str(error), "hint": hint or None}
            log.warning("a sink cannot be reached; it is tried again", extra={"fields": fields})

    def _answered(self) -> None:
        if self._failures:
            fields = {"sink": self._name, "attempts": self._failures}
            log.info("a sink answers again", extra={"fields": fields})
        self._failures = 0
        self._show()

    async def _remember(self, sequence: int) -> None:
        self._delivered = sequence
        try:
            await self._outbox.advance(self._name, sequence)
        except LedgerError as error:
            # The sink has it. Should this daemon die before the next write, it gets it twice.
            fields = {"sink": self._name, "error": str(error)}
            log.warning("a delivery cannot be remembered", extra={"fields": fields})

    def _show(self) -> None:
        oldest = self._waiting[0].wall if self._waiting else 0.0
        self._counts.notifications_waiting(self._name, len(self._waiting), oldest)


def is_passing(error: BaseException) -> bool:
    """Whether time may help: not when the sink took the message for nonsense, or we met a bug."""
    return isinstance(error, DeliveryError) and error.kind not in GIVEN_UP
