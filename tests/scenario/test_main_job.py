"""The stories of the main job, told on the real planner and engine in virtual time."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.desired import GroupSpec, VMSpec
from reconciler.model.names import GroupName, VMName
from reconciler.model.observed import HostFacts
from reconciler.model.record import Evidence
from reconciler.model.request import Restart, Resume, Retry, RollbackTo, Suspend
from reconciler.planning.policy import Policy
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


async def test_an_unchanged_revision_means_no_action_and_no_write() -> None:
    world = World()
    await world.push(state(vm("web")))
    await world.settle()
    writes = world.ledger.writes
    for _ in range(5):
        await world.step()
        world.clock.advance(1.0)
    assert world.ledger.writes == writes


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


async def test_a_first_generation_that_fails_is_stopped_and_not_tried_again() -> None:
    world = World()
    world.hypervisor.behaviour = lambda _m: "bad"
    await world.push(state(vm("web")))
    await world.settle()
    assert world.hypervisor.running() == {}
    assert world.hypervisor.starts["web"] == 1
    assert world.status().vms[0].state == "failed"
    assert "retry" in world.why("web")


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


async def test_the_daemon_dies_and_comes_back_without_touching_a_guest() -> None:
    world = World()
    await world.push(state(vm("db"), vm("web")))
    await world.settle()
    await world.restart()
    await world.settle()
    assert world.hypervisor.starts == {"db": 1, "web": 1}


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
    await world.ask(Restart("web"))
    await world.settle()
    assert world.hypervisor.starts["web"] == 2
    assert world.hypervisor.running() == {"web": 1}
    assert dict(world.record("web").restarts)["manual"] == 1


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


async def test_a_port_that_somebody_else_holds_stops_nothing() -> None:
    world = World()
    await world.push(state(vm("web", port=8080)))
    await world.settle()
    world.host.value = replace(world.host.value, listening=frozenset({8080, 9090}))
    await world.push(state(vm("web", port=9090)))
    for _ in range(6):
        await world.step()
        world.clock.advance(1.0)
    assert world.hypervisor.starts["web"] == 1
    assert "port 9090" in world.why("web")


async def test_memory_that_the_host_does_not_have_stops_nothing() -> None:
    world = World()
    await world.push(state(vm("web")))
    await world.settle()
    world.host.value = HostFacts(100, 10_000, "tcg", 1)
    await world.push(state(vm("web", memory=512)))
    for _ in range(6):
        await world.step()
        world.clock.advance(1.0)
    assert world.hypervisor.starts["web"] == 1
    assert "384MiB more memory" in world.why("web")


async def test_a_rollback_across_a_data_epoch_is_refused() -> None:
    world = World()
    await world.push(state(vm("web", epoch=1)))
    await world.settle()
    world.hypervisor.behaviour = lambda m: "sick" if m.generation == 2 else "good"
    await world.push(state(vm("web", "v2", epoch=2, min_healthy=20.0)))
    await world.settle()
    assert "dataEpoch" in world.why("web")
    assert world.hypervisor.running() == {"web": 2}


async def test_a_guest_that_ignores_the_power_button_is_ended_by_signals() -> None:
    world = World()
    await world.push(state(vm("web")))
    await world.settle()
    world.hypervisor.living("web").ignores_power_button = True
    await world.push(state(vm("web", "v2")))
    await world.settle()
    assert world.hypervisor.running() == {"web": 2}


async def test_a_lost_ledger_means_adopting_and_not_acting() -> None:
    world = World()
    await world.push(state(vm("web")))
    await world.settle()
    lost = World()
    lost.clock, lost.hypervisor, lost.images = world.clock, world.hypervisor, world.images
    lost._boot()
    await lost.push(state(vm("web")))
    await lost.settle()
    assert lost.hypervisor.starts["web"] == 1
    assert lost.last_good("web").reason == "adopted"


async def test_an_adopted_guest_goes_on_when_it_turns_out_to_be_what_is_desired() -> None:
    world = World()
    await world.push(state(vm("web"), vm("db")))
    await world.settle()
    lost = World()
    lost.clock, lost.hypervisor, lost.images = world.clock, world.hypervisor, world.images
    lost._boot()
    await lost.step()  # before the source was read for the first time
    assert lost.record("web").suspended is not None
    await lost.push(state(vm("web"), vm("db", "v2")))
    await lost.settle()
    assert lost.hypervisor.starts == {"web": 1, "db": 1}
    assert lost.record("web").suspended is None
    assert lost.record("db").suspended is not None, "another digest is a person's choice"


async def test_a_broken_prober_neither_commits_nor_condemns() -> None:
    world = World()
    await world.push(state(vm("web")))
    await world.settle()
    world.hypervisor.behaviour = lambda m: "unasked" if m.generation == 2 else "good"
    await world.push(state(vm("web", "v2")))
    for _ in range(100):
        await world.step()
        world.clock.advance(1.0)
    assert world.hypervisor.running() == {"web": 2}
    assert world.generation("web", 2).verdict == "trial"
    assert "could not be asked" in world.why("web")


async def test_a_guest_in_quarantine_that_ends_is_not_started_again() -> None:
    world = World()
    await world.push(state(vm("web")))
    await world.settle()
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    await world.push(state(vm("web", "v2", mode="manual")))
    await world.settle()
    assert world.record("web").quarantine is not None
    world.hypervisor.kill("web")
    await world.settle()
    assert world.hypervisor.running() == {}
    assert "rollback.mode is manual" in world.why("web")


async def test_restart_ends_the_pause_after_a_crash() -> None:
    world = World()
    await world.push(state(vm("web")))
    await world.settle()
    for _ in range(7):
        world.hypervisor.kill("web")
        for _ in range(3):
            await world.step()
        world.clock.advance(0.1)
        if not world.hypervisor.running():
            break
    assert "again soon" in world.why("web")
    await world.ask(Restart("web"))
    await world.step()
    assert world.hypervisor.running() == {"web": 1}


async def test_a_reboot_of_the_host_condemns_nothing_and_brings_back_the_last_good_first() -> None:
    world = World()
    await world.push(state(vm("web")))
    await world.settle()
    await world.push(state(vm("web", "v2", min_healthy=60.0)))
    while world.hypervisor.running() != {"web": 2}:
        await world.step()
        world.clock.advance(0.5)
    world.hypervisor.power_loss()
    world.clock.reboot()
    await world.restart()
    starts = len(world.hypervisor.log)
    await world.settle()
    fresh = [number for kind, _, number in world.hypervisor.log[starts:] if kind == "start"]
    assert fresh == [1, 2], "first what was good, then the trial anew"
    assert world.record("web").blocked == ()
    assert dict(world.record("web").restarts).get("crash", 0) == 0
    assert world.hypervisor.running() == {"web": 2}


async def test_a_rollback_that_cannot_even_start_ends_in_quarantine_in_time() -> None:
    world = World()
    await world.push(state(vm("web", port=8080)))
    await world.settle()
    world.hypervisor.behaviour = lambda m: "exits" if m.generation == 2 else "good"
    await world.push(state(vm("web", "v2", port=9090)))
    world.on_pass = lambda: setattr(
        world.host, "value", replace(world.host.value, listening=frozenset({8080}))
    )
    await world.settle()
    assert world.record("web").quarantine is not None
    assert "not started in time" in world.why("web")


async def test_a_crashed_guest_comes_back_though_the_disk_is_nearly_full() -> None:
    world = World(Policy("/state", disk_reserve_mib=1000, memory_reserve_mib=1000))
    await world.push(state(vm("web")))
    await world.settle()
    world.host.value = HostFacts(200, 10, "tcg", 1)
    world.hypervisor.kill("web")
    await world.settle()
    assert world.hypervisor.running() == {"web": 1}


async def test_restarts_that_people_ask_for_keep_to_the_budget() -> None:
    world = World()
    await world.push(state(*fleet(), groups=(FRONT,)))
    await world.settle()
    for name in ("web-a", "web-b", "web-c"):
        await world.ask(Restart(name))
    least: list[int] = []
    world.on_pass = lambda: least.append(len(world.hypervisor.running()))
    await world.settle()
    assert min(least) == 2
    assert world.hypervisor.starts == {"web-a": 2, "web-b": 2, "web-c": 2}


async def test_an_older_ledger_put_back_follows_the_guest_that_runs() -> None:
    world = World()
    await world.push(state(vm("web")))
    await world.settle()
    former = world.ledger.record()
    await world.ask(Restart("web"))
    await world.settle()
    world.ledger._record = former
    await world.restart()
    await world.settle()
    assert world.hypervisor.starts["web"] == 2
    start = world.record("web").start
    assert start is not None
    assert start.instance == world.hypervisor.living("web").process.instance
