"""Figures that only a VMM or a keeper of guests has, asked one guest after the other beside the scrapes, and never in a hurry.

A VMM may serve a single client, and what stops or hands over a guest needs it more than we do: so a
guest is asked rarely, briefly, only while it is well, and one that did not answer is left in peace.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from reconciler.clock import Clock
from reconciler.errors import ReconcilerError
from reconciler.model.guest_reports import GuestFigures
from reconciler.model.status import HostStatus, VMStatus

log = logging.getLogger(__name__)

ROUND = 30.0
"""Seconds between two questions to one guest."""
LOOK = 5.0
"""Seconds between two looks for guests that are due."""
PAUSE = 0.05
"""Seconds between two guests: of a thousand each is asked every 50 s."""
ANSWER = 1.0
PEACE = 300.0
"""Seconds for which a guest is not asked again that did not answer."""

Ask = Callable[[VMStatus, float], Awaitable[GuestFigures]]


class Sampler:
    """`run` until cancelled; `figures` at any time."""

    def __init__(self, status: Callable[[], HostStatus], ask: Ask, clock: Clock) -> None:
        self._status = status
        self._ask = ask
        self._clock = clock
        self._known: dict[str, GuestFigures] = {}
        """By instance: the next guest of a VM counts from zero."""
        self._due: dict[str, float] = {}
        """When each instance that was asked may be asked again, by the boot clock."""

    def figures(self, vm: VMStatus) -> GuestFigures | None:
        """The newest figures of the guest that this VM runs now."""
        return self._known.get(vm.instance or "")

    async def run(self) -> None:
        """Ask guests in turn until cancelled; a guest that fails is left in peace for PEACE seconds."""
        while True:
            vms = self._status().vms
            present = {vm.instance for vm in vms}
            self._known = {k: v for k, v in self._known.items() if k in present}
            self._due = {k: v for k, v in self._due.items() if k in present}
            for vm in vms:
                if vm.instance is not None and self._is_due(vm, vm.instance):
                    await self._look(vm, vm.instance)
                    await self._clock.sleep(PAUSE)
            await self._clock.sleep(LOOK)

    def _is_due(self, vm: VMStatus, instance: str) -> bool:
        well = vm.state == "running" and vm.healthy
        return well and self._due.get(instance, 0.0) <= self._clock.now().boot

    async def _look(self, vm: VMStatus, instance: str) -> None:
        pause = ROUND
        try:
            self._known[instance] = await self._ask(vm, ANSWER)
        except ReconcilerError:
            pause = PEACE
        except Exception:  # figures are no reason to end a daemon
            log.exception("asking %s for figures failed in an unforeseen way", vm.name)
            pause = PEACE
        self._due[instance] = self._clock.now().boot + pause
