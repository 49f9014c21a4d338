"""Death at every durable write and every side effect of one scenario, one at a time and in pairs."""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor

from reconciler.errors import LedgerUnwritable
from reconciler.model.desired import DesiredState, GroupSpec
from reconciler.model.image_tags import digests_of
from reconciler.model.names import GroupName
from reconciler.model.policy import Policy
from tests.fakes import Crash
from tests.fakes.faults import Fault
from tests.simulation.oracles import Oracles
from tests.simulation.tagging import Tagging, with_image
from tests.world import World, state, vm

Point = tuple[int, Fault]
"""The nth call of the run, and whether death comes before or after its effect."""
DEATHS: tuple[Fault, ...] = ("crash-before", "crash-after")
BAD = "b2"
POLICY = Policy(
    "/state", prune=True, max_delete=1, memory_reserve_mib=0, disk_reserve_mib=0, bridges=("br0",)
)


def scenario() -> list[DesiredState]:
    """First boot; a good update of a group; a bad one that is rolled back; its fix; a removal."""
    group = (GroupSpec(GroupName("front"), max_unavailable=1),)

    def fleet(a: str, b: str, data: str, *, job: bool = True) -> DesiredState:
        vms = [
            vm("db", min_healthy=1.0),
            vm("store", data, min_healthy=1.0, snapshot=True),
            vm("web-a", a, group="front", after=("db",), min_healthy=1.0, bridge="br0"),
            with_image(vm("web-b", b, group="front", after=("db",), min_healthy=1.0), "commit"),
            vm("edge", data, min_healthy=1.0, handover=True),
        ]
        extra = [vm("job", min_healthy=1.0, bridge="br0")] if job else []
        return state(*vms, *extra, groups=group)

    return [
        fleet("a0", "b0", "s0"), fleet("a1", "b1", "s1"), fleet("a1", BAD, BAD),
        fleet("a3", "b3", "s3"), fleet("a3", "b3", "s3", job=False),
    ]  # fmt: skip


async def run(points: Iterable[Point]) -> World:
    """The scenario with a death at each of these points. Raises Broken or AssertionError."""
    deaths = dict(points)
    world = World(POLICY)
    world.faults.chooser = lambda n, _call: deaths.get(n)
    bad = {
        f"/state/layers/{vm(n, c).layers[0].key}/image"
        for n, c in (("web-b", BAD), ("store", BAD), ("edge", BAD))
    }
    world.hypervisor.behaviour = lambda m: "bad" if m.layers[-1].path in bad else "good"
    tagging = Tagging(world, random.Random(1))  # noqa: S311  # not a secret
    oracles, digest = Oracles(world, tagging), ""
    for desired in scenario():
        digest = tagging.push("good")
        await _survive(world, desired)
        oracles.look()
    assert world.hypervisor.running().keys() == {"db", "store", "web-a", "web-b", "edge"}
    assert any(g.verdict == "condemned" for g in world.record("edge").generations)
    assert "job" not in world.ledger.record().vms
    assert any(g.verdict == "condemned" for g in world.record("web-b").generations)
    assert [found for _, found in digests_of(world.last_good("web-b").spec)] == [digest]
    condemned = [g.number for g in world.record("store").generations if g.verdict == "condemned"]
    written = world.hypervisor.disks["/state/vms/store/volumes/data.raw"]
    assert condemned, "the bad generation of store was tried"
    assert not set(condemned) & set(written), f"{condemned} wrote, and it stayed: {written}"
    oracles.converged()
    return world


async def _survive(world: World, desired: DesiredState) -> None:
    while True:
        try:
            await world.push(desired)
            await world.settle()
        except (Crash, LedgerUnwritable):
            pass
        if not world.faults.crashed:
            return
        world.faults.crashed = False
        try:
            await world.restart()
        except Crash:
            continue


def calls() -> int:
    """N: how many durable writes and side effects the scenario has."""
    return asyncio.run(run(())).faults.count


def attempt(points: tuple[Point, ...]) -> str | None:
    """None, or what went wrong when the daemon died at these points."""
    logging.disable(logging.CRITICAL)
    try:
        asyncio.run(run(points))
    except AssertionError as error:
        return f"{points}: {error}"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev crash", description=__doc__)
    parser.add_argument("--pairs", type=int, default=2000, help="pairs of deaths, sampled")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    number = calls()
    singles: list[tuple[Point, ...]] = [((n, d),) for n in range(number) for d in DEATHS]
    draw = random.Random(given.seed)  # noqa: S311  # a sample, not a secret
    pairs: list[tuple[Point, ...]] = [
        tuple((draw.randrange(number + 40), draw.choice(DEATHS)) for _ in range(2))
        for _ in range(given.pairs)
    ]
    with ProcessPoolExecutor() as pool:
        wrong = [w for w in pool.map(attempt, singles + pairs, chunksize=20) if w is not None]
    for line in wrong[:20]:
        sys.stdout.write(line + "\n")
    sys.stdout.write(
        f"N = {number} writes and side effects, death before and after each: {len(singles)} runs;"
        f" {len(pairs)} pairs sampled with seed {given.seed}; {len(wrong)} broken\n"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
