"""The stories of the main job, told on the real planner and engine in virtual time."""

from __future__ import annotations

import pytest

from reconciler.model.desired import GroupSpec, VMSpec
from reconciler.model.names import GroupName, VMName
from reconciler.model.policy import Policy
from reconciler.model.record import Evidence
from reconciler.model.request import RestartVM, Resume, Retry, RollbackTo, Suspend
from tests.world import World, state, vm

FRONT = GroupSpec(GroupName("front"), max_unavailable=1)


def fleet(content: str = "v1", **changed: str) -> list[VMSpec]:
    names = {"web-a": "front", "web-b": "front", "web-c": "front"}
    return [vm(n, changed.get(n.replace("-", "_"), content), group=g) for n, g in names.items()]


async def test_a_first_push_brings_everything_up_and_commits_it() -> None:
    world = World()
    await world.push(state(vm("db"), vm("web", after=("db",))))
    await world.settle()
    assert world.hypervisor.running() == {"db": 1, "web": 1}
    assert [v.sync for v in world.status().vms] == ["synced", "synced"]
    assert world.ledger.record().source.applied == world.ledger.record().source.revision
    first = [name for kind, name, _ in world.hypervisor.log if kind == "start"]
    assert first == ["db", "web"]


@pytest.mark.shows(law=12)
async def test_an_unchanged_revision_means_no_action_and_no_write() -> None:
    world = World()
    await world.push(state(vm("web")))
    await world.settle()
    writes = world.ledger.writes
    for _ in range(5):
        await world.step()
        world.clock.advance(1.0)
    assert world.ledger.writes == writes


@pytest.mark.shows(comparison=18)
async def test_a_commit_that_changes_no_digest_restarts_nothing() -> None:
    world = World()
    await world.push(state(vm("web")))
    await world.settle()
    await world.push(state(vm("web", labels={"tier": "web"}), revision="d" * 40))
    await world.settle()
    assert world.hypervisor.starts["web"] == 1
    assert world.ledger.record().source.applied == "d" * 40
    assert world.last_good("web").spec.labels == (("tier", "web"),)


async def test_only_the_changed_vm_is_built_and_restarted() -> None:
    world = World()
    await world.push(state(vm("db"), vm("web")))
    await world.settle()
    built = len(world.images.built)
    await world.push(state(vm("db"), vm("web", "v2")))
    await world.settle()
    assert len(world.images.built) == built + 1
    assert world.hypervisor.starts == {"db": 1, "web": 2}
    assert world.hypervisor.running() == {"db": 1, "web": 2}


@pytest.mark.shows(law=3)
async def test_a_group_is_changed_one_at_a_time() -> None:
    world = World()
    await world.push(state(*fleet(), groups=(FRONT,)))
    await world.settle()
    least = []
    world.on_pass = lambda: least.append(len(world.hypervisor.running()))
    await world.push(state(*fleet("v2"), groups=(FRONT,)))
    await world.settle()
    assert min(least) == 2
    assert world.hypervisor.running() == {"web-a": 2, "web-b": 2, "web-c": 2}


@pytest.mark.shows(law=5, comparison=6)
async def test_a_bad_generation_is_rolled_back_blocked_and_its_group_held() -> None:
    world = World()
    await world.push(state(*fleet(), groups=(FRONT,)))
    await world.settle()
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    await world.push(state(*fleet("v2"), groups=(FRONT,)))
    await world.settle()
    assert world.hypervisor.running() == {"web-a": 1, "web-b": 1, "web-c": 1}
    assert world.hypervisor.starts == {"web-a": 3, "web-b": 1, "web-c": 1}
    assert world.status().vms[0].sync == "blocked"
    assert "held" in world.why("web-b")
    assert (hold := world.hold("front")) is not None
    assert hold.vm == "web-a"
    assert world.events("rolled-back")


@pytest.mark.shows(law=5, comparison=4)
async def test_a_condemned_digest_stays_blocked_over_commits_and_restarts() -> None:
    world = World()
    await world.push(state(*fleet(), groups=(FRONT,)))
    await world.settle()
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    await world.push(state(*fleet("v2"), groups=(FRONT,)))
    await world.settle()
    starts = dict(world.hypervisor.starts)
    await world.push(state(*fleet("v2"), vm("other"), groups=(FRONT,)))
    await world.settle()
    await world.restart()
    await world.settle()
    assert world.hypervisor.starts["other"] == 1
    assert {n: c for n, c in world.hypervisor.starts.items() if n != "other"} == starts


@pytest.mark.shows(comparison=4)
async def test_retry_tries_the_blocked_digest_again_and_the_group_goes_on() -> None:
    world = World()
    await world.push(state(*fleet(), groups=(FRONT,)))
    await world.settle()
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    await world.push(state(*fleet("v2"), groups=(FRONT,)))
    await world.settle()
    world.hypervisor.behaviour = lambda _m: "good"
    await world.ask(Retry("web-a"))
    await world.settle()
    assert world.hypervisor.running() == {"web-a": 3, "web-b": 2, "web-c": 2}


@pytest.mark.shows(law=11)
async def test_a_fixing_commit_overtakes_and_lifts_the_hold() -> None:
    world = World()
    await world.push(state(*fleet(), groups=(FRONT,)))
    await world.settle()
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    await world.push(state(*fleet("v2"), groups=(FRONT,)))
    await world.settle()
    world.hypervisor.behaviour = lambda _m: "good"
    await world.push(state(*fleet("v3"), groups=(FRONT,)))
    await world.settle()
    assert world.hypervisor.running() == {"web-a": 3, "web-b": 2, "web-c": 2}
    assert world.hold("front") is None


@pytest.mark.shows(law=11, comparison=9)
async def test_a_newer_commit_overtakes_a_guest_on_trial() -> None:
    world = World()
    await world.push(state(vm("web")))
    await world.settle()
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    await world.push(state(vm("web", "v2")))
    for _ in range(8):
        await world.step()
    assert world.hypervisor.running() == {"web": 2}
    await world.push(state(vm("web", "v3")))
    await world.settle(20.0)
    assert world.hypervisor.running() == {"web": 3}
    assert world.record("web").blocked == ()


async def test_a_panic_on_trial_is_condemned_at_once() -> None:
    world = World()
    await world.push(state(vm("web")))
    await world.settle()
    world.hypervisor.behaviour = lambda m: "panics" if m.generation == 2 else "good"
    await world.push(state(vm("web", "v2")))
    before = world.clock.now().boot
    await world.settle()
    assert world.clock.now().boot - before < 10
    assert world.generation("web", 2).evidence == Evidence(
        "panicked", probe="not asked yet", exit="kernel panic", console=("Kernel panic",)
    )
    assert world.hypervisor.running() == {"web": 1}


async def test_a_guest_that_reports_failure_on_trial_is_condemned_at_once() -> None:
    world = World()
    await world.push(state(vm("web")))
    await world.settle()
    world.hypervisor.behaviour = lambda m: "reports" if m.generation == 2 else "good"
    await world.push(state(vm("web", "v2")))
    before = world.clock.now().boot
    await world.settle()
    assert world.clock.now().boot - before < 10
    condemned = world.generation("web", 2)
    assert condemned.evidence is not None
    assert condemned.evidence.kind == "reported"
    assert condemned.reason == "the guest ended: it reported failure: no schema"
    assert world.hypervisor.running() == {"web": 1}


@pytest.mark.shows(comparison=19)
async def test_a_first_generation_that_fails_is_stopped_and_not_tried_again() -> None:
    world = World()
    world.hypervisor.behaviour = lambda _m: "bad"
    await world.push(state(vm("web")))
    await world.settle()
    assert world.hypervisor.running() == {}
    assert world.hypervisor.starts["web"] == 1
    assert world.status().vms[0].state == "failed"
    assert "retry" in world.why("web")


@pytest.mark.shows(law=6)
async def test_a_rollback_that_fails_too_ends_in_quarantine() -> None:
    world = World()
    await world.push(state(vm("web")))
    await world.settle()
    world.hypervisor.behaviour = lambda _m: "bad"
    await world.push(state(vm("web", "v2")))
    await world.settle()
    assert world.record("web").quarantine is not None
    assert world.hypervisor.starts["web"] == 3
    world.hypervisor.behaviour = lambda _m: "good"
    await world.push(state(vm("web", "v3")))
    await world.settle()
    assert world.record("web").quarantine is None
    assert world.hypervisor.running() == {"web": 3}


@pytest.mark.shows(promise=3)
async def test_a_crash_of_a_committed_guest_is_a_restart_with_growing_pauses_and_no_rollback() -> (
    None
):
    world = World()
    await world.push(state(vm("web")))
    await world.settle()
    for crash in range(1, 4):
        world.hypervisor.kill("web")
        await world.settle()
        assert world.hypervisor.running() == {"web": 1}
        assert (backoff := world.record("web").backoff) is not None
        assert backoff.crashes == crash
    assert dict(world.record("web").restarts)["crash"] == 3
    assert world.record("web").blocked == ()


@pytest.mark.shows(promise=3)
async def test_crashes_are_over_once_the_guest_was_steady_for_ten_minutes() -> None:
    world = World()
    await world.push(state(vm("web")))
    await world.settle()
    world.hypervisor.kill("web")
    await world.settle()
    world.clock.advance(590.0)
    await world.settle()
    assert world.events("guest-recovered") == []
    for _ in range(3):
        world.clock.advance(10.0)
        await world.settle()
    assert world.events("guest-recovered") == ["web: generation 1 is steady again, after 1 crash"]
    assert world.record("web").backoff is None


async def test_an_unhealthy_committed_guest_is_restarted() -> None:
    world = World()
    await world.push(state(vm("web")))
    await world.settle()
    world.hypervisor.living("web").fate = "bad"
    for _ in range(5):
        await world.step()
        world.clock.advance(1.0)
    await world.settle()
    assert world.hypervisor.starts["web"] == 2
    assert world.hypervisor.running() == {"web": 1}


@pytest.mark.shows(law=9)
async def test_the_daemon_dies_and_comes_back_without_touching_a_guest() -> None:
    world = World()
    await world.push(state(vm("db"), vm("web")))
    await world.settle()
    await world.restart()
    await world.settle()
    assert world.hypervisor.starts == {"db": 1, "web": 1}


@pytest.mark.shows(law=7, row=27)
async def test_an_emptied_repository_stops_nothing() -> None:
    world = World(Policy("/state", prune=True, max_delete=5, memory_reserve_mib=0))
    await world.push(state(vm("web")))
    await world.settle()
    assert not await world.push(state(revision="e" * 40))
    await world.settle()
    assert world.hypervisor.running() == {"web": 1}
    assert "no VM at all" in world.status().revision.problems[0]


async def test_a_removed_vm_is_kept_while_prune_is_off() -> None:
    world = World()
    await world.push(state(vm("db"), vm("web")))
    await world.settle()
    await world.push(state(vm("db")))
    await world.settle()
    assert world.hypervisor.running() == {"db": 1, "web": 1}
    assert "prune is off" in world.why("web")


async def test_a_removed_vm_is_stopped_and_leaves_the_inventory_when_it_is_gone() -> None:
    world = World(Policy("/state", prune=True, memory_reserve_mib=0))
    await world.push(state(vm("db"), vm("web")))
    await world.settle()
    await world.push(state(vm("db")))
    await world.settle()
    assert world.hypervisor.running() == {"db": 1}
    assert VMName("web") not in world.ledger.record().vms


async def test_a_removal_whose_stop_fails_is_tried_again_after_pauses() -> None:
    world = World(Policy("/state", prune=True, memory_reserve_mib=0))
    await world.push(state(vm("db"), vm("web")))
    await world.settle()
    world.faults.chooser = lambda _n, call: "error" if call == "power-button" else None
    await world.push(state(vm("db")))
    before = len(world.faults.calls)
    await world.run(30.0)
    assert world.faults.calls[before:].count("power-button") <= 4
    assert "stop failed, again soon" in world.why("web")
    world.faults.chooser = lambda _n, _call: None
    await world.settle()
    assert world.hypervisor.running() == {"db": 1}


async def test_more_removals_than_allowed_remove_nothing() -> None:
    world = World(Policy("/state", prune=True, max_delete=1, memory_reserve_mib=0))
    await world.push(state(vm("a"), vm("b"), vm("c")))
    await world.settle()
    await world.push(state(vm("a")))
    await world.settle()
    assert world.hypervisor.running() == {"a": 1, "b": 1, "c": 1}
    assert "max_delete" in world.why("b")


async def test_a_suspended_vm_is_left_alone_until_resumed() -> None:
    world = World()
    await world.push(state(vm("web")))
    await world.settle()
    await world.ask(Suspend("web", "looking into it"))
    await world.push(state(vm("web", "v2")))
    await world.settle()
    assert world.hypervisor.running() == {"web": 1}
    assert "looking into it" in world.why("web")
    await world.ask(Resume("web"))
    await world.settle()
    assert world.hypervisor.running() == {"web": 2}


async def test_a_persons_rollback_lasts_until_a_new_digest() -> None:
    world = World()
    for content in ("v1", "v2"):
        await world.push(state(vm("web", content)))
        await world.settle()
    await world.ask(RollbackTo("web"))
    await world.settle()
    assert world.hypervisor.running() == {"web": 1}
    await world.push(state(vm("web", "v3")))
    await world.settle()
    assert world.hypervisor.running() == {"web": 3}


async def test_a_persons_restart_starts_the_same_generation_anew() -> None:
    world = World()
    await world.push(state(vm("web")))
    await world.settle()
    await world.ask(RestartVM("web"))
    await world.settle()
    assert world.hypervisor.starts["web"] == 2
    assert world.hypervisor.running() == {"web": 1}
    assert dict(world.record("web").restarts)["manual"] == 1


@pytest.mark.shows(law=2)
async def test_a_layer_that_cannot_be_built_touches_no_guest() -> None:
    world = World()
    await world.push(state(vm("web")))
    await world.settle()
    bad = vm("web", "v2")
    world.images.bad.add(bad.layers[0].key)
    await world.push(state(bad))
    await world.settle()
    assert world.hypervisor.starts["web"] == 1
    assert "submodule" in world.why("web")
