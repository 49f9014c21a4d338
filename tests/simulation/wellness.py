"""What healthy means, watched from outside: who was up before a commit, and who was restarted for what."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

from reconciler.model.actions import StopGuest
from reconciler.model.checks import ProcessCheck
from reconciler.model.names import Digest, VMName
from reconciler.planning.guest_health import asks_guest
from tests.fakes.guest import FakeGuest
from tests.simulation.naming import OTHER_NAMES
from tests.world import World

READY_ONLY = frozenset(("web-b",))
"""VMs whose checks decide on no restart."""
UNCHECKED = frozenset(OTHER_NAMES)
"""VMs without checks: they count by what their init says."""
MUTE = {"bad": "silent", "sick": "quits"}
"""How a guest fares of which nothing is asked, by what its content would do to checks."""


def fate_in(vm: str, fate: str) -> str:
    return MUTE.get(fate, fate) if vm in UNCHECKED else fate


def is_up(world: World, guest: FakeGuest) -> bool:
    """Whether it was seen well by whoever looks at the world, and not at the record."""
    health = world.hypervisor.healths.get(guest.process.instance)
    said = guest.said.up is not None and not guest.said.ended
    if guest.machine.vm in UNCHECKED:
        return said
    return health is not None and health.ever_passed


def seems_ill(guest: FakeGuest) -> bool:
    """By its fate, or by the end of its application where no check says otherwise."""
    ended = guest.machine.vm in UNCHECKED and bool(guest.said.ended)
    return ended or guest.fate in ("bad", *MUTE.values())


async def dependency_away(
    world: World, draw: random.Random, step: Callable[[], Awaitable[None]]
) -> None:
    """What some guests need is elsewhere, and away for a while: they live, and are not ready."""
    guests = [g for g in world.hypervisor.guests.values() if g.machine.vm in READY_ONLY]
    for guest in (well := [g for g in guests if g.fate == "good"]):
        guest.fate = "unready"
    for _ in range(draw.randrange(4, 20)):
        await step()
    for guest in well:
        guest.fate = "good"


async def application_ends(world: World, draw: random.Random) -> None:
    """A start script fails late: the guest lives on, and says so."""
    living = [g for g in world.hypervisor.guests.values() if g.process.alive]
    if living:
        guest = draw.choice(living)
        guest.said = replace(guest.said, ended="worker status 3")


async def breathless(
    world: World, draw: random.Random, step: Callable[[], Awaitable[None]]
) -> None:
    """The host is out of breath: for a while most guests fail their checks, all at once."""
    well = [g for g in world.hypervisor.guests.values() if g.fate == "good" and draw.random() < 0.8]
    for guest in well:
        guest.fate = "faint"
    for _ in range(draw.randrange(4, 12)):
        await step()
    for guest in well:
        guest.fate = "good"


class WellnessOracle:
    def __init__(self, world: World) -> None:
        self.world = world
        self._up: set[tuple[int, Digest]] = set()
        """Number and digest of generations of which a guest was up; a rename keeps both."""

    def witness(self) -> None:
        for guest in self.world.hypervisor.guests.values():
            record = self.world.ledger.record().vms.get(guest.machine.vm)
            generation = record.generation(guest.machine.generation) if record else None
            if generation is not None and is_up(self.world, guest):
                self._up.add((generation.number, generation.digest))

    def look(self) -> str:
        """What is wrong, in words; empty where nothing is."""
        self.witness()
        return next(self._committed_unseen(), "")

    def _committed_unseen(self) -> Iterator[str]:
        for name, vm in self.world.ledger.record().vms.items():
            for generation in vm.generations:
                seen = (generation.number, generation.digest) in self._up
                if generation.verdict == "committed" and not seen:
                    yield f"{name}: generation {generation.number} is committed, and never was up"

    def stopped(self, action: StopGuest) -> str:
        """A guest that only is not ready is stopped by nobody to be started again."""
        guest = self.world.hypervisor.guests.get(action.instance)
        stop = self.world.record(action.vm).stop
        if guest is None or stop is None or stop.cause != "unhealthy":
            return ""
        if action.why.startswith("carrying on") or not guest.process.alive:
            return ""
        return self._needless(action.vm, guest)

    def _needless(self, vm: VMName, guest: FakeGuest) -> str:
        generation = self.world.record(vm).generation(guest.machine.generation)
        if generation is None or not asks_guest(generation.spec.health):
            return ""
        asked = [c for c in generation.spec.health.checks if not isinstance(c, ProcessCheck)]
        if any(check.purpose == "liveness" for check in asked):
            return ""
        well = guest.said.up is not None and not guest.said.ended
        return f"{vm} is restarted, and only was not ready" if well else ""
