"""A VM whose image is named by a tag: looked up when the manifest says so, and rolled out like any change."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.errors import RequestRefused
from reconciler.model.desired import DesiredState, GroupSpec, VMSpec
from reconciler.model.image_tags import TagMeaning
from reconciler.model.layer_kinds.oci_layer import OciSource, Resolve
from reconciler.model.layers import LayerSpec
from reconciler.model.machine import Machine
from reconciler.model.names import Digest, GroupName, VMName
from reconciler.model.request import ResolveTags, RollbackTo
from tests.fakes import FakeLedger
from tests.world import KERNEL, World, state, vm

APP = "registry.example.org/acme/app:1"
HOUR = 3600.0
WEB = VMName("web")


def tagged(
    name: str = "web", resolve: Resolve = "commit", *, reference: str = APP, memory: int = 128,
    group: str = "", handover: bool = False,
) -> VMSpec:  # fmt: skip
    repository, _, tag = reference.rpartition(":")
    source = OciSource("linux/amd64", repository, tag=tag, resolve=resolve)
    spec = vm(name, memory=memory, group=group, handover=handover)
    spec = replace(spec, layers=(LayerSpec.of(source),))
    return replace(spec, digest=Digest(spec.compute_digest()))


def at(number: int, *vms: VMSpec, groups: tuple[GroupSpec, ...] = ()) -> DesiredState:
    """Revisions with numbers: each is another, whatever is in it."""
    return state(*vms, revision=f"{number:040x}", groups=groups)


def digest_in(world: World, name: str = "web", number: int = 0) -> str:
    """The digest of the image in the generation that is good, or has this number."""
    made = world.generation(name, number) if number else world.last_good(name)
    source = made.spec.layers[0].source
    assert isinstance(source, OciSource)
    return source.digest


def meaning(world: World) -> TagMeaning:
    (found,) = world.durable.record().store.tags
    return found


async def serving(resolve: Resolve = "commit", content: str = "v1") -> World:
    """A host whose only VM runs what the tag means."""
    world = World()
    world.tags.push(APP, content)
    await world.push(at(1, tagged(resolve=resolve)))
    await world.settle()
    return world


def ill_with(world: World, *digests: str) -> None:
    """Guests of these images never answer their checks."""

    def fate(machine: Machine) -> str:
        record = world.durable.record().vms[machine.vm].generation(machine.generation)
        source = record.spec.layers[0].source if record else None
        return "bad" if isinstance(source, OciSource) and source.digest in digests else "good"

    world.hypervisor.behaviour = fate


async def test_the_digest_that_a_tag_meant_is_in_the_record_and_in_the_generation() -> None:
    world = await serving()
    digest = world.tags.push(APP, "v1")
    assert digest_in(world) == digest
    assert (meaning(world).digest, meaning(world).key) == (digest, f"{APP} commit")
    assert world.events("tag-looked-up") == [f"{APP} means {digest[:19]}: web"]
    (layer,) = world.last_good("web").spec.layers
    assert layer.title == f"oci {APP}@{digest[:19]}"
    assert set(world.images.built) == {layer.key, KERNEL.key}, "nothing is built of a tag alone"


async def test_a_tag_that_moved_is_rolled_out_with_the_next_commit_and_not_before() -> None:
    world = await serving()
    newer = world.tags.push(APP, "v2")
    world.clock.advance(72 * HOUR)
    await world.settle()
    assert world.record("web").next_number == 2, "nothing asked for it"
    await world.push(at(2, tagged()))
    await world.settle()
    assert (digest_in(world), world.last_good("web").revision) == (newer, f"{2:040x}")
    (result,) = (r for r in world.durable.record().source.revisions if r.revision == f"{2:040x}")
    assert (result.result, result.changed) == ("converged", 1)


async def test_a_commit_that_changes_nothing_and_a_tag_that_stays_restart_nothing() -> None:
    world = await serving()
    starts = world.hypervisor.starts["web"]
    await world.push(at(2, tagged()))
    await world.settle()
    assert (world.hypervisor.starts["web"], len(world.tags.asked)) == (starts, 2)
    writes = world.ledger.writes
    await world.step()
    assert world.ledger.writes == writes, "at rest it writes nothing"


async def test_a_commit_and_a_tag_that_moved_with_it_are_one_restart() -> None:
    world = await serving()
    world.tags.slow = 20.0
    newer = world.tags.push(APP, "v2")
    await world.push(at(2, tagged(memory=256)))
    await world.settle()
    assert (world.last_good("web").spec.memory_mib, digest_in(world)) == (256, newer)
    assert world.hypervisor.starts["web"] == 2


async def test_daily_looks_once_in_24_hours() -> None:
    world = await serving("daily")
    newer = world.tags.push(APP, "v2")
    world.clock.advance(23 * HOUR)
    await world.settle()
    assert len(world.tags.asked) == 1
    world.clock.advance(HOUR)
    await world.settle()
    assert (len(world.tags.asked), digest_in(world)) == (2, newer)
    passed = world.reconciler.passed
    assert passed is not None
    assert passed.plan.wake_at is not None, "the next lookup is due by time alone"


async def test_daily_goes_on_after_the_clock_was_set_back_by_a_year() -> None:
    world = await serving("daily")
    newer = world.tags.push(APP, "v2")
    world.clock.step_wall(-365 * 24 * HOUR)
    await world.settle()
    assert digest_in(world) == newer


async def test_manual_looks_only_when_a_person_asks() -> None:
    world = await serving("manual")
    newer = world.tags.push(APP, "v2")
    for number in (2, 3):
        await world.push(at(number, tagged(resolve="manual", memory=128 * number)))
        world.clock.advance(48 * HOUR)
        await world.settle()
    assert len(world.tags.asked) == 1
    assert await world.ask(ResolveTags(APP)) == f"it is looked up what {APP} means"
    await world.settle()
    assert (len(world.tags.asked), digest_in(world)) == (2, newer)
    await world.run(30.0)
    assert len(world.tags.asked) == 2, "once for each time it is asked for"


async def test_a_request_for_a_tag_that_nothing_names_is_refused_with_a_similar_one() -> None:
    world = await serving("manual")
    with pytest.raises(RequestRefused) as refused:
        await world.ask(ResolveTags(APP.replace("acme", "acne")))
    assert APP in str(refused.value.hint)


async def test_the_same_tag_may_be_looked_up_at_other_times_by_others() -> None:
    world = World()
    old = world.tags.push(APP, "v1")
    both = (tagged("web", "commit"), tagged("db", "manual"))
    await world.push(at(1, *both))
    await world.settle()
    newer = world.tags.push(APP, "v2")
    await world.push(at(2, *both))
    await world.settle()
    assert (digest_in(world, "web"), digest_in(world, "db")) == (newer, old)


async def test_a_first_lookup_that_fails_holds_the_change_of_that_vm_alone() -> None:
    world = World()
    await world.push(at(1, vm("web"), vm("db")))
    await world.settle()
    world.tags.away = {APP}
    await world.push(at(2, tagged(), vm("db", "v2")))
    await world.run(60.0)
    assert world.hypervisor.starts == {"web": 1, "db": 2}
    assert f"{APP} was never looked up with success: the registry cannot" in world.why("web")
    world.tags.away = set()
    digest = world.tags.push(APP, "v1")
    world.clock.advance(HOUR)
    await world.settle()
    assert digest_in(world) == digest


async def test_a_vm_that_never_ran_waits_for_its_first_lookup() -> None:
    world = World()
    world.tags.away = {APP}
    await world.push(at(1, tagged()))
    await world.run(60.0)
    assert "web" not in world.hypervisor.running()
    assert f"{APP} was never looked up" in world.why("web")
    status = next(one for one in world.status().vms if one.name == "web")
    assert "lookup" in {wait.kind for wait in status.waits}


async def test_a_registry_that_is_away_keeps_the_recorded_digest_and_delays_no_change() -> None:
    world = await serving()
    digest = digest_in(world)
    world.tags.away = {APP}
    await world.push(at(2, tagged(memory=256)))
    await world.settle()
    good = world.last_good("web")
    assert (good.spec.memory_mib, digest_in(world)) == (256, digest)
    assert len(world.tags.asked) > 1
    await world.push(at(3, tagged(memory=512)))
    await world.step()
    await world.step()
    assert world.record("web").generations[-1].spec.memory_mib == 512, (
        "it waits for no second failure"
    )
    newer = world.tags.push(APP, "v2")
    world.tags.away = set()
    world.clock.advance(HOUR)
    await world.settle()
    assert digest_in(world) == newer
    assert f"{APP} means {newer[:19]}, and meant {digest[:19]}: web" in world.events(
        "tag-looked-up"
    )


async def test_a_guest_that_dies_while_the_registry_is_away_is_started_again() -> None:
    world = await serving()
    world.tags.away = {APP}
    await world.push(at(2, tagged()))
    await world.settle()
    world.hypervisor.kill("web")
    await world.restart()
    await world.settle()
    assert "web" in world.hypervisor.running()
    assert world.record("web").next_number == 2


async def test_a_condemned_image_is_not_tried_again_until_the_tag_means_another() -> None:
    world = await serving()
    good, bad = digest_in(world), world.tags.push(APP, "bad")
    ill_with(world, bad)
    await world.push(at(2, tagged()))
    await world.settle()
    assert digest_in(world, number=2) == bad
    assert (digest_in(world), world.hypervisor.running()[WEB]) == (good, 1)
    await world.push(at(3, tagged()))
    await world.restart()
    await world.settle()
    assert world.hypervisor.starts["web"] == 3, "the good one, the bad one, and back"
    assert "blocked" in {wait.kind for one in world.status().vms for wait in one.waits}
    newer = world.tags.push(APP, "v3")
    await world.push(at(4, tagged()))
    await world.settle()
    assert digest_in(world) == newer


async def test_the_revision_answers_for_an_image_that_came_after_it() -> None:
    world = await serving("daily")
    ill_with(world, world.tags.push(APP, "bad"))
    before = world.durable.record().source.revisions[-1].result
    world.clock.advance(25 * HOUR)
    await world.settle()
    after = world.durable.record().source.revisions[-1]
    assert (before, after.result, after.blamed) == ("converged", "rolled-back", ("web",))


async def test_a_tag_that_goes_back_is_the_last_good_one_and_restarts_nothing() -> None:
    world = await serving("daily")
    ill_with(world, world.tags.push(APP, "bad"))
    world.clock.advance(25 * HOUR)
    await world.settle()
    starts = world.hypervisor.starts["web"]
    world.tags.push(APP, "v1")
    world.clock.advance(25 * HOUR)
    await world.settle()
    assert world.hypervisor.starts["web"] == starts
    assert not [wait for one in world.status().vms for wait in one.waits]


async def test_a_moved_tag_goes_through_the_canary_of_its_group() -> None:
    world = World()
    front = GroupSpec(GroupName("front"), canary=(VMName("b"),), canary_soak=60.0)
    fleet = [tagged(name, "daily", group="front") for name in ("a", "b", "c")]
    world.tags.push(APP, "v1")
    await world.push(at(1, *fleet, groups=(front,)))
    await world.settle()
    ill_with(world, world.tags.push(APP, "bad"))
    world.clock.advance(25 * HOUR)
    await world.settle(HOUR)
    assert world.hypervisor.starts == {"a": 1, "b": 3, "c": 1}
    assert world.hold("front") is not None


async def test_a_revert_to_an_older_revision_means_what_the_tag_means_now() -> None:
    world = await serving()
    newer = world.tags.push(APP, "v2")
    await world.push(at(2, tagged(memory=256)))
    await world.settle()
    await world.push(at(1, tagged()))
    await world.settle()
    assert (world.last_good("web").spec.memory_mib, digest_in(world)) == (128, newer)


async def test_a_revert_to_another_tag_needs_no_registry_while_a_generation_knows_it() -> None:
    world = await serving()
    old = digest_in(world)
    two = APP.replace(":1", ":2")
    world.tags.push(two, "v2")
    await world.push(at(2, tagged(reference=two)))
    await world.settle()
    world.tags.away = {APP, two}
    await world.push(at(3, tagged()))
    await world.settle()
    assert digest_in(world) == old


async def test_a_persons_rollback_lasts_until_the_tag_means_another_image() -> None:
    world = await serving("daily")
    old = digest_in(world)
    world.tags.push(APP, "v2")
    world.clock.advance(25 * HOUR)
    await world.settle()
    await world.ask(RollbackTo(WEB))
    await world.settle()
    world.clock.advance(25 * HOUR)
    await world.settle()
    assert world.hypervisor.running()[WEB] == 1
    assert digest_in(world, number=1) == old
    newest = world.tags.push(APP, "v3")
    world.clock.advance(25 * HOUR)
    await world.settle()
    assert digest_in(world) == newest


async def test_from_a_tag_to_the_digest_that_it_meant_restarts_nothing() -> None:
    world = await serving()
    source = OciSource("linux/amd64", APP.rpartition(":")[0], digest_in(world))
    named = replace(vm("web"), layers=(LayerSpec.of(source),))
    await world.push(at(2, replace(named, digest=Digest(named.compute_digest()))))
    await world.settle()
    assert world.hypervisor.starts["web"] == 1
    assert world.durable.record().store.tags == (), "nothing names the tag any more"


async def test_a_daemon_that_died_in_the_middle_looks_again() -> None:
    world = World()
    world.tags.push(APP, "v1")
    world.tags.slow = 30.0
    await world.push(at(1, tagged()))
    await world.step()
    await world.restart()
    await world.settle()
    assert world.last_good("web").number == 1
    assert len(world.tags.asked) == 2


async def test_after_the_ledger_was_lost_guests_of_a_tag_go_on_without_the_registry() -> None:
    world = await serving()
    digest = digest_in(world)
    world.tags.away = {APP}
    world.durable = world.ledger = FakeLedger(world.faults)
    await world.restart()
    await world.push(at(1, tagged()))
    await world.settle()
    assert world.hypervisor.starts["web"] == 1
    assert digest_in(world) == digest
    assert world.record("web").suspended is None, "what runs is known to be what is desired"


async def test_a_second_guest_on_trial_stays_while_a_newer_revision_is_looked_up() -> None:
    world = World()
    world.tags.push(APP, "v1")
    await world.push(at(1, tagged(handover=True)))
    await world.settle()
    world.tags.push(APP, "v2")
    await world.push(at(2, tagged(handover=True)))
    while world.record("web").candidate is None or len(world.hypervisor.all_living(WEB)) < 2:
        await world.step()
        world.clock.advance(0.1)
    world.tags.slow = 10.0
    await world.push(at(3, tagged(handover=True, memory=256)))
    for _ in range(5):
        await world.step()
    assert len(world.hypervisor.all_living(WEB)) == 2
    assert world.hypervisor.stops["web"] == 0
    await world.settle()
    assert world.last_good("web").spec.memory_mib == 256
