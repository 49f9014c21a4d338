"""Slow actions, each in a task of its own, so that a pass never waits and a hung guest delays no other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from reconciler.clock import Clock
from reconciler.engine.interfaces import Wake
from reconciler.errors import BuildFailed, ReconcilerError
from reconciler.model.actions import OperationKind, OutcomeKind
from reconciler.model.change import EndIntent
from reconciler.model.names import VMName
from reconciler.model.observed import ActionResult, Operation, Outcome

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Failure:
    message: str
    kind: str
    transient: bool
    """Trying again may help."""


class Workers:
    """At most one slow action a VM and one build a key; how they ended waits for the next pass."""

    def __init__(self, clock: Clock, wake: Wake) -> None:
        self._clock = clock
        self._wake = wake
        self._busy: dict[VMName, Operation] = {}
        self._building: dict[str, asyncio.Task[None]] = {}
        self._ending: set[str] = set()
        self._looking: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._outcomes: list[Outcome] = []
        self._ended: list[EndIntent] = []

    def busy(self) -> dict[VMName, Operation]:
        return dict(self._busy)

    def building(self) -> frozenset[str]:
        return frozenset(self._building)

    def ending(self) -> frozenset[str]:
        """Builds that were cancelled and have not ended yet."""
        return frozenset(self._ending)

    def looking(self) -> frozenset[str]:
        """Tags that are being looked up."""
        return frozenset(self._looking)

    def outcomes(self) -> tuple[Outcome, ...]:
        """How actions ended that no durable pass has seen yet."""
        return tuple(self._outcomes)

    def ended(self) -> tuple[EndIntent, ...]:
        """Intents that came to their end and are not yet written so."""
        return tuple(self._ended)

    def seen(self, outcomes: tuple[Outcome, ...], ended: tuple[EndIntent, ...]) -> None:
        """The record has these now. Both lists only grow at their end, so these are their heads."""
        del self._outcomes[: len(outcomes)]
        del self._ended[: len(ended)]

    def operate(
        self, vm: VMName, kind: OperationKind, intent: str, work: Coroutine[Any, Any, ActionResult]
    ) -> None:  # fmt: skip
        """Run a VM's slow action."""
        self._busy[vm] = Operation(vm, kind, self._clock.now().boot)

        async def run() -> None:
            try:
                self._finish(await self._outcome(kind, vm, work), intent)
            finally:
                self._busy.pop(vm, None)
                self._wake()

        self._track(asyncio.create_task(run()))

    def build(
        self, kind: OutcomeKind, key: str, intent: str, work: Coroutine[Any, Any, ActionResult]
    ) -> None:
        """Run a build, or the collection of the store."""

        async def run() -> None:
            try:
                self._finish(await self._outcome(kind, key, work), intent)
            except asyncio.CancelledError:
                if key not in self._ending:
                    raise
                self._ended.append(EndIntent(intent, "cancelled"))
            finally:
                self._ending.discard(key)
                self._building.pop(key, None)
                self._wake()

        self._building[key] = task = asyncio.create_task(run())
        self._track(task)

    def look_up(self, tag: str, intent: str, work: Coroutine[Any, Any, ActionResult]) -> None:
        """Run a lookup of a tag."""
        self._looking.add(tag)

        async def run() -> None:
            try:
                self._finish(await self._outcome("look-up", tag, work), intent)
            finally:
                self._looking.discard(tag)
                self._wake()

        self._track(asyncio.create_task(run()))

    def cancel(self, key: str, intent: str) -> None:
        """Have a build end that is not needed any more; it is `building` until it has."""
        task = self._building.get(key)
        if task is not None:
            self._ending.add(key)
            task.cancel()
        self._ended.append(EndIntent(intent, "done"))

    def aside(self, intent: str, work: Coroutine[Any, Any, ActionResult]) -> None:
        """Run something small that is in the way of nothing; its failure is logged and tried again."""

        async def run() -> None:
            ended = await self._attempt(intent, work)
            failed = isinstance(ended, _Failure)
            self._ended.append(EndIntent(intent, "failed" if failed else "done"))
            self._wake()

        self._track(asyncio.create_task(run()))

    async def close(self) -> None:
        """Leave what runs at the nearest durable point: intents stay open and tell the next daemon."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _track(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._untrack)

    def _untrack(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a worker ended in an unforeseen way", exc_info=error)

    def _finish(self, outcome: Outcome, intent: str) -> None:
        self._outcomes.append(outcome)
        self._ended.append(EndIntent(intent, "failed" if outcome.error else "done"))

    async def _outcome(
        self, kind: OutcomeKind, subject: str, work: Coroutine[Any, Any, ActionResult]
    ) -> Outcome:
        began = self._clock.now().boot
        ended = await self._attempt(f"{kind} {subject}", work)
        seconds = self._clock.now().boot - began
        if isinstance(ended, _Failure):
            error = (ended.message, ended.kind, ended.transient)
            return Outcome(kind, subject, *error, seconds=seconds)
        return Outcome(kind, subject, seconds=seconds, result=ended)

    async def _attempt(
        self, what: str, work: Coroutine[Any, Any, ActionResult]
    ) -> ActionResult | _Failure:
        try:
            return await work
        except ReconcilerError as failure:
            hint = f" ({failure.hint})" if failure.hint else ""
            transient = not isinstance(failure, BuildFailed)
            return _Failure(f"{failure}{hint}", failure.kind, transient)
        except Exception as failure:
            log.exception("%s failed in an unforeseen way", what)
            return _Failure(f"unforeseen: {failure!r}", "panic", transient=True)
