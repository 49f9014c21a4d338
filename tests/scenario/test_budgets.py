"""A builder's trouble, a bad revision, a bad guest and a broken prober: none spends another's budget."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.content_store import ContentStore
from reconciler.errors import BuildUnavailable
from reconciler.model.image import BuiltImage
from reconciler.model.layers import LayerSpec
from reconciler.model.machine import Machine
from reconciler.model.names import VMName
from reconciler.model.policy import TROUBLE_BACKOFF, Policy
from tests.world import World, state, vm

STRICT = Policy("/state", memory_reserve_mib=0, disk_reserve_mib=0, max_rollbacks_per_hour=1)
"""One failed generation, and nothing that serves is changed any more within the hour."""
FLAKY = vm("flaky", "v2").layers[0].key


async def serving(*names: str, policy: Policy = STRICT) -> World:
    return await World.settled(state(*(vm(name) for name in names)), policy)


def break_the_builder(world: World) -> list[float]:
    """Of one layer, for reasons outside of it; the moments at which it was asked."""
    build, asked = world.images.build_layer, list[float]()

    async def build_layer(spec: LayerSpec, content: ContentStore) -> BuiltImage:
        if spec.key == FLAKY:
            asked.append(world.clock.now().boot)
            raise BuildUnavailable("the mirror does not answer")
        return await build(spec, content)

    world.images.build_layer = build_layer  # type: ignore[method-assign]
    return asked


def condemned(world: World) -> list[str]:
    return [name for name, record in world.ledger.record().vms.items() if record.blocked]


@pytest.mark.shows(promise=7)
async def test_a_builders_trouble_is_tried_again_for_ever_and_condemns_nobody() -> None:
    world = await serving("flaky", "other")
    build, asked = world.images.build_layer, break_the_builder(world)
    await world.push(state(vm("flaky", "v2"), vm("other")))
    await world.run(3600.0)
    assert len(asked) >= 3600 / TROUBLE_BACKOFF[1], "never given up"
    assert asked[-1] - asked[-2] >= TROUBLE_BACKOFF[1], "and not often"
    assert condemned(world) == []
    assert world.record("flaky").backoff is None
    assert world.hypervisor.stops["flaky"] == 0
    world.images.build_layer = build  # type: ignore[method-assign]
    await world.push(state(vm("flaky", "v2"), vm("other", "v2")))
    await world.settle()
    assert world.hypervisor.running() == {"flaky": 2, "other": 2}, "the breaker is whole"


@pytest.mark.shows(promise=8)
async def test_bad_revisions_are_refused_and_cost_nobody_a_try() -> None:
    world = await serving("web")
    for number in range(20):
        await world.reconciler.reject(f"{number:040x}", ("web.yaml:3:1: unknown field",))
        await world.run(1.0)
    assert condemned(world) == []
    assert world.hypervisor.stops["web"] == 0
    await world.push(state(vm("web", "v2")))
    await world.settle()
    assert world.hypervisor.running() == {"web": 2}, "the breaker is whole"


@pytest.mark.shows(promise=9)
async def test_a_bad_guest_spends_the_breaker_and_nothing_of_builds_or_crashes() -> None:
    world = await serving("web", "other")
    world.hypervisor.behaviour = lambda m: "exits" if m.generation == 2 else "good"
    await world.push(state(vm("web", "v2"), vm("other")))
    await world.settle()
    assert condemned(world) == ["web"]
    assert world.ledger.record().builds == {}
    assert world.record("web").backoff is None, "a way back is no crash of the last good one"
    await world.push(state(vm("web", "v2"), vm("other", "v2")))
    await world.run(60.0)
    assert world.hypervisor.running() == {"web": 1, "other": 1}
    assert "max_rollbacks_per_hour" in world.why("other")
    world.hypervisor.kill("other")
    await world.run(5.0)
    assert world.hypervisor.running() == {"web": 1, "other": 1}, "a repair asks no breaker"


@pytest.mark.shows(promise=10)
async def test_a_broken_prober_spends_neither_breaker_nor_deadline() -> None:
    world = await serving("web")
    world.hypervisor.behaviour = lambda m: "unasked" if m.generation == 2 else "good"
    await world.push(state(vm("web", "v2")))
    await world.run(600.0)  # startupDeadline is 30 s
    assert world.generation("web", 2).verdict == "trial"
    assert condemned(world) == []
    world.hypervisor.living("web").fate = "good"
    await world.settle()
    assert world.last_good("web").number == 2


@pytest.mark.shows(promise=11)
async def test_all_four_at_once_delay_nobody_who_is_well() -> None:
    world = await serving(
        "flaky", "bad", "unasked", "well", policy=replace(STRICT, max_rollbacks_per_hour=10)
    )
    break_the_builder(world)

    def fate(machine: Machine) -> str:
        if machine.generation == 1 or machine.vm in {VMName("flaky"), VMName("well")}:
            return "good"
        return "exits" if machine.vm == "bad" else "unasked"

    world.hypervisor.behaviour = fate
    await world.push(state(*(vm(n, "v2") for n in ("flaky", "bad", "unasked", "well"))))
    await world.reconciler.reject("b" * 40, ("web.yaml:3:1: unknown field",))
    await world.run(300.0)
    assert world.hypervisor.running() == {"well": 2, "flaky": 1, "bad": 1, "unasked": 2}
    assert world.last_good("well").number == 2
    assert world.generation("unasked", 2).verdict == "trial"
    assert world.ledger.record().source.rejection is not None
    assert condemned(world) == ["bad"]
    assert "the mirror does not answer" in world.why("flaky")
