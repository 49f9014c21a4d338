"""Delivers messages to one sink, in order, and retries until each is accepted or refused.

The queue is a position in the ledger's events, so undelivered messages survive any crash. A message that
was accepted at the moment of a crash is sent twice, with the same id.
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
"""Seconds for one attempt, from name resolution to the answer."""
LONGEST_PAUSE = 300.0
"""Seconds between two attempts at most."""
MOST_WAITING = 1000
"""Queue length of one sink. Beyond it the oldest message is dropped, and counted."""

GIVEN_UP = ("refused", "unforeseen")
"""Kinds of DeliveryError that are not retried."""


class Delivery:
    """The delivery to one sink. Call `begin` once, `take` for each event in order, and `run` until cancelled."""

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
        """Set the sequence up to which an earlier daemon delivered."""
        self._delivered = delivered
        self._show()

    def take(self, event: Event) -> None:
        """Queue the message for an event, if it is news to this sink. Does not block."""
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
        """Deliver queued messages, and those to come, until cancelled. Errors of the sink are not raised."""
        while True:
            while self._waiting:
                await self._deliver()
            self._awake.clear()
            await self._awake.wait()

    async def close(self) -> None:
        """Close the sink."""
        await self._sink.close()

    async def _deliver(self) -> None:
        """Try until the sink accepts the oldest message, or refuses it permanently."""
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
        # The oldest at each attempt: the one tried before may have been dropped meanwhile.
        self._tried = self._waiting[0]
        try:
            async with asyncio.timeout(DEADLINE):
                await self._sink.send(self._tried)
        except TimeoutError:
            raise DeliveryError(f"no answer within {DEADLINE:g} s", kind="timeout") from None
        except DeliveryError:
            raise
        except Exception as error:  # a bug in one message must not end the daemon
            log.exception("a notification failed with an unexpected error")
            raise DeliveryError(f"unexpected error: {error!r}", kind="unforeseen") from error

    def _failed(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        self._counts.notification_ended(self._name, "failed")
        self._failures += 1
        if self._failures == 1:
            hint = error.hint if isinstance(error, DeliveryError) else ""
            fields = {"sink": self._name, "error": str(error), "hint": hint or None}
            log.warning("a sink cannot be reached; delivery is retried", extra={"fields": fields})

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
            # The sink has it. If the daemon dies before the next write, the message is sent twice.
            fields = {"sink": self._name, "error": str(error)}
            log.warning("a delivery could not be recorded", extra={"fields": fields})

    def _show(self) -> None:
        oldest = self._waiting[0].wall if self._waiting else 0.0
        self._counts.notifications_waiting(self._name, len(self._waiting), oldest)


def is_passing(error: BaseException) -> bool:
    """Whether retrying may help: not if the sink refused the message, or on a bug of ours."""
    return isinstance(error, DeliveryError) and error.kind not in GIVEN_UP
