"""All couriers of a daemon: opened on the ledger, fed with events, each running by itself."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

from reconciler.clock import Clock
from reconciler.config import SinkConfig
from reconciler.model.event import Event
from reconciler.notify.delivery import Delivery
from reconciler.notify.registry import SINKS, SinkKinds, open_sink
from reconciler.notify.selection import Digest
from reconciler.notify.sink_interface import Counts, Outbox

AT_ONCE = 500
"""Events read from the ledger in one go."""


class Notifier:
    """Open it before anything writes events; then `run` it. `close` it when done."""

    def __init__(
        self,
        configs: Sequence[SinkConfig],
        outbox: Outbox,
        clock: Clock,
        counts: Counts,
        kinds: SinkKinds = SINKS,
    ) -> None:
        host = socket.gethostname()
        self._outbox = outbox
        self._couriers = {
            config.name: Delivery(
                config.name,
                open_sink(config, clock, kinds),
                Digest(
                    host, severity=config.severity, groups=config.groups, repeat=config.repeat
                ),
                outbox, clock, counts,
            )
            for config in configs
        }  # fmt: skip

    async def open(self) -> None:
        """Take up where the last daemon was. Raises LedgerUnwritable."""
        cursors = await self._outbox.open_cursors(self._couriers)
        if not self._couriers:
            return
        for name, courier in self._couriers.items():
            courier.begin(cursors[name])
        after = 0
        while events := await self._outbox.events(after, AT_ONCE):
            for event in events:
                self._take(event)
            after = events[-1].sequence
        self._outbox.subscribe(self._take)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for courier in self._couriers.values():
                group.create_task(courier.run())
            await asyncio.Event().wait()

    async def close(self) -> None:
        for courier in self._couriers.values():
            await courier.close()

    def _take(self, event: Event) -> None:
        for courier in self._couriers.values():
            courier.take(event)
