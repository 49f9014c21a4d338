"""Images of a life: which have parts, and guests that say, rightly or not, that a block of one is damaged."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import replace

from reconciler.planning.intake.damage import suspects
from tests.world import World

SEALED = frozenset(("db", "web-b"))
"""VMs whose guests compare blocks with trees of hashes."""


async def block_damaged(
    world: World, draw: random.Random, step: Callable[[], Awaitable[None]]
) -> None:
    """A guest says so, and some time later its images are read again, or are not yet."""
    _say_so(world, draw)
    for _ in range(draw.randrange(6)):
        await step()
    if draw.random() < 0.7:
        await read_suspects(world)


def _say_so(world: World, draw: random.Random) -> None:
    """In half of all cases an image has rotted; any guest may lie."""
    living = [g for g in world.hypervisor.guests.values() if g.process.alive]
    if not living:
        return
    guest = draw.choice(living)
    if draw.random() < 0.5:
        there = sorted(world.images.stored().keys() & world.images.layers())
        world.images.rotten.update(draw.sample(there, min(1, len(there))))
    if guest.said.damaged is None:
        guest.said = replace(guest.said, damaged=world.clock.now().boot)


async def read_suspects(world: World) -> None:
    """What the daemon's scrub does."""
    since = suspects(world.ledger.record().vms, world.images.parts())
    for key in sorted(since.keys() & world.images.stored().keys()):
        if not world.images.stored()[key].broken:
            await world.images.read_again(key, bytes_per_second=1e12, progress=lambda _: None)


async def all_judged(world: World) -> None:
    """Once all is read, no report stays open. Comes when faults have stopped."""
    for _ in range(
        2
    ):  # a clock that was set back is noticed by a pass, and then what is read counts
        await read_suspects(world)
        await world.settle(3600.0)
    vms = world.ledger.record().vms.items()
    left = [name for name, vm in vms if vm.damage is not None and not vm.damage.settled]
    assert left == [], f"what reading the images of {', '.join(left)} again found is not said"
