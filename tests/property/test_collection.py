"""Collection never takes what something names, over random histories of a store."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from reconciler.errors import LedgerUnwritable, RequestRefused
from reconciler.model.names import LayerKey, digest_of
from reconciler.model.policy import Policy
from reconciler.model.request import CollectImages, Request, Retry, RollbackTo
from tests.fakes import Crash
from tests.fakes.faults import Fault
from tests.world import World, state, vm

NAMES = ("a", "b", "c")
BASE = LayerKey("b" * 64)
MIB = 1 << 20

contents = st.dictionaries(
    st.sampled_from(NAMES), st.sampled_from(("v1", "v2", "v3", "bad")), min_size=1
)
chapters = st.one_of(
    st.tuples(st.just("push"), contents),
    st.tuples(st.just("rollback"), st.sampled_from(NAMES)),
    st.tuples(st.just("retry"), st.sampled_from(NAMES)),
    st.tuples(st.just("collect"), st.none()),
    st.tuples(st.just("crash"), st.none()),
    st.tuples(st.just("lose"), st.integers(0, 20)),
    st.tuples(st.just("rot"), st.integers(0, 20)),
    st.tuples(st.just("short of disk"), st.integers(0, 3000)),
    st.tuples(st.just("wait"), st.integers(1, 40)),
)
bounds = st.sampled_from((0, 2, 5, 1000))
faults = st.dictionaries(
    st.integers(0, 150),
    st.sampled_from(("error", "delay", "hang", "crash-before", "crash-after")),
    max_size=4,
)


def composed(key: LayerKey) -> tuple[LayerKey, ...]:
    """Each second layer has a part that all of these share, and one of its own."""
    own = LayerKey(digest_of({"part": key}))
    return (BASE, own) if int(key[0], 16) % 2 else ()


class History:
    """A host whose store is used in every way, and watched at each removal."""

    def __init__(self, bound: int, planned: dict[int, Fault]) -> None:
        policy = Policy(
            "/state", prune=True, max_delete=4, memory_reserve_mib=0, disk_reserve_mib=1000,
            generations_kept=2, store_max_mib=bound,
        )  # fmt: skip
        self.world = World(policy)
        self.planned = planned
        self.world.faults.chooser = self.choose
        self.world.hypervisor.behaviour = lambda m: (
            "bad" if self.content(m.vm, m.generation) == "bad" else "good"
        )
        images = self.world.images
        images.composed = composed
        images.slow = lambda key: int(key[:2], 16) / 64
        images.on_removal = self.watch
        self.removed = 0
        self.taken = set[str]()
        """What was removed though something named it."""

    def choose(self, number: int, call: str) -> Fault | None:
        """A write is waited for by the pass itself: it fails, or it is done."""
        fault = self.planned.get(number)
        return "error" if call == "write" and fault in ("delay", "hang") else fault

    def content(self, name: str, number: int) -> str:
        spec = self.world.generation(name, number).spec
        return next(c for c in ("v1", "v2", "v3", "bad") if vm(name, c).layers == spec.layers)

    def named(self) -> set[str]:
        """What a guest runs on, a generation may go back to, or the last plan's desired state names."""
        passed = self.world.reconciler.passed
        desired = passed.desired if passed is not None else None
        record = self.world.durable.record()
        specs = [g.spec for one in record.vms.values() for g in one.generations]
        specs += desired.vms.values() if desired is not None else ()
        keys = {key for spec in specs for key in spec.image_keys}
        return keys.union(*(of for key, of in self.world.images.parts().items() if key in keys))

    def watch(self, gone: frozenset[str]) -> None:
        self.removed += len(gone)
        self.taken |= gone & self.named()

    async def run(self, story: list[tuple[str, object]]) -> None:
        for kind, what in story:
            await self.chapter(kind, what)
            await self.survive(6)
        self.planned.clear()
        self.world.host.value = replace(self.world.host.value, disk_free_mib=1_000_000)
        await self.survive(150)

    async def chapter(self, kind: str, what: object) -> None:
        world = self.world
        there = sorted(world.images.on_disk())
        match kind, what:
            case "push", dict():
                desired = state(*(vm(n, c, min_healthy=1.0) for n, c in sorted(what.items())))
                await self.attempt(world.push(desired))
            case "rollback" | "retry" | "collect", _:
                requests: dict[str, Request] = {
                    "rollback": RollbackTo(str(what)), "retry": Retry(str(what)),
                    "collect": CollectImages(),
                }  # fmt: skip
                with contextlib.suppress(RequestRefused):
                    await self.attempt(world.ask(requests[kind]))
            case "crash", _:
                world.faults.crashed = True
                await self.survive(1)
            case "lose", int() if there and not world.workers.busy():
                world.images.lose(there[what % len(there)])
            case "rot", int() if there and not world.workers.busy():
                key = there[what % len(there)]
                if key in world.images.stored():
                    world.images.rotten.add(key)
                    await world.images.read_again(
                        key, bytes_per_second=1.0, progress=lambda _: None
                    )
            case "short of disk", int():
                world.host.value = replace(world.host.value, disk_free_mib=what)
            case "wait", int():
                await self.survive(what)
            case _:
                pass  # nothing is there to be lost, or what is being started has it open

    async def attempt(self, work: object) -> None:
        with contextlib.suppress(Crash, LedgerUnwritable):
            await work  # type: ignore[misc]  # a push or a request
        await self.rise()

    async def survive(self, steps: int) -> None:
        for _ in range(steps):
            await self.attempt(self.world.step())
            self.world.clock.advance(0.7)

    async def rise(self) -> None:
        while self.world.faults.crashed:
            self.world.faults.crashed = False
            with contextlib.suppress(LedgerUnwritable):
                try:
                    await self.world.restart()
                except Crash:
                    self.world.faults.crashed = True


@pytest.mark.shows(law=8)
@given(st.lists(chapters, min_size=3, max_size=12), bounds, faults)
@settings(max_examples=60)
def test_what_a_guest_a_generation_or_the_desired_state_names_is_never_collected(
    story: list[tuple[str, object]], bound: int, planned: dict[int, Fault]
) -> None:
    history = History(bound, planned)
    asyncio.run(history.run([("push", {"a": "v1", "b": "v1"}), *story]))
    assert history.taken == set()
    world = history.world
    stored = world.images.stored()
    assert history.named() >= stored.keys() or bound, "without a bound nothing unnamed stays"
    total = sum(image.size_bytes for image in stored.values())
    unnamed = stored.keys() - history.named()
    assert not unnamed or total <= bound * MIB, "unnamed images stay within the bound"


def test_the_watch_of_these_histories_sees_removals() -> None:
    history = History(0, {})
    pushes: list[tuple[str, object]] = [("push", {"a": f"v{n}"}) for n in (1, 2, 3, 1, 2)]
    asyncio.run(history.run([("push", {"a": "v1", "b": "v1"}), *pushes, ("push", {"a": "v3"})]))
    assert history.removed > 0
