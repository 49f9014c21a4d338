"""All deliveries of the daemon: opened on the ledger, fed with its events, each running by itself."""

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
"""Events read from the ledger at a time."""


class Notifier:
    """Delivers to every configured sink. `open` before anything writes events, then `run`, then `close`."""

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
        self._deliveries = {
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
        """Continue after the last delivery of an earlier daemon. Raises LedgerUnwritable."""
        cursors = await self._outbox.open_cursors(self._deliveries)
        if not self._deliveries:
            return
        for name, delivery in self._deliveries.items():
            delivery.begin(cursors[name])
        after = 0
        while events := await self._outbox.events(after, AT_ONCE):
            for event in events:
                self._take(event)
            after = events[-1].sequence
        self._outbox.subscribe(self._take)

    async def run(self) -> None:
        """Deliver until cancelled."""
        async with asyncio.TaskGroup() as group:
            for delivery in self._deliveries.values():
                group.create_task(delivery.run())
            await asyncio.Event().wait()

    async def close(self) -> None:
        """Close all sinks."""
        for delivery in self._deliveries.values():
            await delivery.close()

    def _take(self, event: Event) -> None:
        for delivery in self._deliveries.values():
            delivery.take(event)
