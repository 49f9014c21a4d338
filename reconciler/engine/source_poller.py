"""Looks at the source: when there is one, and what becomes of its answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from reconciler.engine.interfaces import Adapters
from reconciler.engine.reconcile_pass import LEDGER_RETRY, Reconciler
from reconciler.errors import LedgerError, ManifestErrors, RevisionRefused, SourceError
from reconciler.model.change import Change
from reconciler.model.desired import DesiredState
from reconciler.model.record import SourceRecord
from reconciler.now import Now
from reconciler.requests import source_changes
from reconciler.requests.source_changes import lineage

log = logging.getLogger(__name__)


class SourcePoller:
    """One look at a time. `lock` is held for every write; `tick` tells that looks go on, `looks` of one that begins."""

    def __init__(
        self, adapters: Adapters, reconciler: Reconciler, lock: asyncio.Lock, wake: Callable[[], None],
        first_pass: Callable[[], Awaitable[None]], tick: Callable[[str, float], None],
        looks: Callable[[float], None],
    ) -> None:  # fmt: skip
        self._adapters = adapters
        self._reconciler = reconciler
        self._lock = lock
        self._wake = wake
        self._first_pass = first_pass
        self._tick = tick
        self._looks = looks
        self._asked = asyncio.Event()
        self._fetching = asyncio.Lock()
        self._failures = 0
        self._failing_since: float | None = None
        """Since when all looks failed, by the boot clock."""
        self._pending: DesiredState | None = None
        """A fetched state that could not be made durable yet."""

    def look(self) -> None:
        self._asked.set()

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            self._asked.clear()
            unwritten = False
            try:
                await self.fetch()
            except (SourceError, ManifestErrors):
                pass  # it was counted, logged and shown where it happened
            except LedgerError:
                unwritten = True  # the guarded ledger made it known; what was read is not lost
            except Exception:
                log.exception("looking at the source failed in an unforeseen way")
                self._failures += 1
                self._adapters.meter.panicked()
            delay = self._adapters.source.next_delay(self._failures)
            delay = min(delay, LEDGER_RETRY) if unwritten else delay
            self._tick("source", delay)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._asked.wait()

    async def fetch(self) -> None:
        """Look at the source once. Raises SourceError, ManifestErrors or LedgerError."""
        async with self._fetching:
            if self._adapters.ledger.record().source.revision is None:
                await self._first_pass()  # a lost ledger learns from what runs what was followed
            self._looks(self._adapters.source.longest_look())
            await self._accept_pending()
            await self._fetch()

    async def _accept_pending(self) -> None:
        if self._pending is not None:
            async with self._lock:
                await self._reconciler.accept(self._pending)
            self._pending = None
            self._wake()

    async def _fetch(self) -> None:
        adapters = self._adapters
        began = adapters.clock.now().boot
        result, reason = "error", ""
        try:
            fetched = await adapters.source.fetch(lineage(adapters.ledger.record()))
            await self._answered()
            result = "updated" if fetched.changed else "unchanged"
            desired = self._reconciler.desired
            if fetched.state is not None:
                self._pending = fetched.state
                await self._accept_pending()
            elif desired is not None and fetched.revision == desired.revision:
                await self._take_back_rejection(desired)
        except (ManifestErrors, RevisionRefused) as error:
            reason = error.kind
            await self._answered()
            async with self._lock:
                problems = tuple(str(problem) for problem in error.problems)
                await self._reconciler.reject(error.revision, problems, error.kind, error.more)
            raise
        except SourceError as error:
            reason = error.kind
            await self._unanswered(error)
            raise
        finally:
            seconds = adapters.clock.now().boot - began
            adapters.meter.fetch_ended(adapters.source.status().name, result, seconds, reason)

    async def _answered(self) -> None:
        self._failures, self._failing_since = 0, None
        await self._tell(source_changes.answered)

    async def _unanswered(self, error: SourceError) -> None:
        self._failures += 1
        log.warning(
            "the source cannot be read",
            extra={"fields": {"reason": error.kind, "error": str(error), "hint": error.hint}},
        )
        since = self._failing_since = self._failing_since or self._adapters.clock.now().boot
        await self._tell(
            lambda source, now: source_changes.failed(source, since, error.kind, str(error), now)
        )

    async def _tell(self, decide: Callable[[SourceRecord, Now], list[Change]]) -> None:
        """Write what is worth telling of a look, if anything; if it cannot be, the next look does."""
        async with self._lock:
            source = self._adapters.ledger.record().source
            changes = decide(source, self._adapters.clock.now())
            if changes:
                with contextlib.suppress(LedgerError):  # no reason to lose what was fetched
                    await self._adapters.ledger.write(changes)

    async def _take_back_rejection(self, desired: DesiredState) -> None:
        """A bad commit was taken back, and the source names what is desired anyway."""
        if self._adapters.ledger.record().source.rejection is not None:
            self._pending = desired
            await self._accept_pending()
