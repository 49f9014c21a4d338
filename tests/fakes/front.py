"""The front as a table in memory, which outlives daemon and guests."""

from __future__ import annotations

from collections.abc import Callable

from reconciler.errors import ProxyError
from reconciler.model.machine import RouteTarget, RoutingTable
from reconciler.model.names import InstanceId, VMName
from tests.fakes.clock import FakeClock
from tests.fakes.faults import Faults


class FakeFront:
    def __init__(self, clock: FakeClock, faults: Faults) -> None:
        self._clock = clock
        self._faults = faults
        self.table: dict[VMName, RouteTarget] = {}
        self.error = ""
        self.gone = False
        """Nothing starts it any more, and nobody knows it before it is asked."""
        self.strangers: set[int] = set()
        """Ports on which somebody else listens."""
        self.lingers = 0.0
        """Seconds for which connections to a guest go on that gets no new ones."""
        self.told: Callable[[VMName, RouteTarget | None], None] = lambda _vm, _led: None

    async def look(self) -> RoutingTable:
        return RoutingTable({}, self.error) if self.error else RoutingTable(dict(self.table))

    async def reach(self) -> None:
        fault = await self._faults.before("reach")
        if self.error or self.gone:
            raise ProxyError(self.error or "it cannot be reached")
        self._faults.after("reach", fault)

    async def route(self, vm: VMName, target: RouteTarget | None) -> None:
        fault = await self._faults.before("lead")
        if self.error or self.gone:
            raise ProxyError(self.error or "it cannot be reached")
        others = [other for name, other in self.table.items() if name != vm]
        held = {(r.address, r.port) for other in others for r in other.routes}
        for route in target.routes if target is not None else ():
            if route.port in self.strangers or (route.address, route.port) in held:
                raise ProxyError(f"port {route.port} of the host is taken", kind="port")
        if target is None or not target.routes:
            self.table.pop(vm, None)
        else:
            self.table[vm] = target
        self.told(vm, target)
        self._faults.after("lead", fault)

    async def drained(self, vm: VMName, instance: InstanceId | None, most: float) -> None:
        fault = await self._faults.before("drained")
        if self.lingers and instance is not None:
            await self._clock.sleep(min(most, self.lingers))
        self._faults.after("drained", fault)

    def die(self) -> None:
        """As `kill -9`: the next one knows nothing."""
        self.table.clear()
