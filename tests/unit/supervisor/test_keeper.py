"""The books of a supervisor, while that which keeps its processes cannot be asked."""

from __future__ import annotations

import asyncio
from pathlib import Path

from reconciler.errors import SupervisorError
from reconciler.model.names import VMName
from reconciler.model.observed import Conflict
from reconciler.supervisor.guest_discovery import Finding
from reconciler.supervisor.local import Children
from reconciler.supervisor.process_supervisor import ROUND, ProcessSupervisor
from tests.eventually import eventually
from tests.fakes.clock import FakeClock


class Bus(Children):
    """Answers for one folder, which a stranger holds, unless it is away."""

    def __init__(self, folder: Path, clock: FakeClock) -> None:
        super().__init__(clock)
        self.folder = folder
        self.away = False
        self.asked = 0
        self.found: Finding = Conflict(VMName("web"), "somebody else holds it")

    async def find_all(self, root: Path) -> list[tuple[Path, Finding]]:
        return [(root / self.folder, self.found)]

    async def find(self, folder: Path) -> Finding:
        self.asked += 1
        if self.away:
            raise SupervisorError(f"{folder.name}: no answer", kind="bus")
        return self.found


async def test_conflicts_are_looked_at_again_after_a_time_in_which_nobody_could_be_asked(
    tmp_path: Path,
) -> None:
    clock = FakeClock()
    bus = Bus(Path("web"), clock)
    keeper = ProcessSupervisor(tmp_path, clock, lambda: None, bus)
    await keeper.adopt()
    running = asyncio.create_task(keeper.run())

    async def look() -> None:
        before = bus.asked
        await asyncio.sleep(0)
        clock.advance(ROUND)
        await eventually(lambda: running.done() or bus.asked > before)

    bus.away = True
    await look()
    assert not running.done(), "the end of one part is the end of the daemon"
    assert keeper.conflicts(), "what is not known to be over goes on"
    bus.away, bus.found = False, None
    await look()
    await eventually(lambda: not keeper.conflicts())
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await keeper.close()
