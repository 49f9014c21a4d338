"""What the engine tells /metrics, and what is counted of the fleet at each scrape."""

from dataclasses import replace

import pytest

from reconciler.model.names import GenerationNumber
from reconciler.model.status import RevisionStatus, WaitStatus
from tests.unit.test_metrics import FIRST, SECOND, STARTED, Host, fleet, vm
from tests.world import World, state, vm as declared

GENERATION = GenerationNumber(3)


@pytest.fixture
def host() -> Host:
    return Host(vm("web"), vm("db"))


def test_what_the_engine_tells_is_counted(host: Host) -> None:
    metrics = host.metrics
    metrics.fetch_ended("main", "error", 0.5, "timeout")
    metrics.pass_ended("changed", 0.02)
    metrics.component_ticked("planner", STARTED + 5)
    metrics.probe_answered("http", "failure", 0.01)
    metrics.rollout_ended("failed")
    metrics.rollback_ended("front", "probe-failed", "succeeded")
    metrics.phase_ended("stop", 4.0)
    metrics.revision_running(12.0)
    metrics.build_ended("built", 1.5)
    metrics.build_ended("cached", 0.0)
    metrics.state_written(0.002)
    metrics.state_failed("write")
    metrics.state_recovered()

    assert host.value("source_fetch_total", source="main", result="error") == 1
    assert host.value("source_errors_total", source="main", reason="timeout") == 1
    assert host.value("reconcile_total", result="changed") == 1
    assert host.value("probe_total", type="http", result="failure") == 1
    assert host.value("rollouts_total", result="failed") == 1
    assert (
        host.value("rollbacks_total", group="front", reason="probe-failed", result="succeeded") == 1
    )
    assert host.value("rollout_phase_duration_seconds_sum", phase="stop") == 4
    assert host.value("commit_to_running_seconds_bucket", le="20.0") == 1
    assert host.value("image_build_total", result="cached") == 1
    assert host.value("image_build_duration_seconds_count") == 1
    assert host.value("state_write_duration_seconds_count") == 1
    assert host.value("state_errors_total", op="write") == 1
    assert host.value("state_recovered_total") == 1
    ticks = "component_last_tick_timestamp_seconds"
    assert host.value(ticks, component="planner") == STARTED + 5
    assert host.value(ticks, component="source") == STARTED


def test_what_the_engine_does_is_counted(host: Host) -> None:
    metrics = host.metrics
    metrics.began({"start": 3, "build-layer": 2})
    metrics.began({"start": 1})
    metrics.drifted("guest")
    metrics.gap_ended("planned", 4.5)
    metrics.collected(4096, failed=False)
    metrics.stocked({"layers": 7})

    assert host.value("actions_total", action="start") == 4
    assert host.value("actions_total", action="build-layer") == 2
    assert host.value("drift_total", kind="guest") == 1
    assert host.value("vm_downtime_seconds_sum", cause="planned") == 4.5
    assert host.value("image_collections_total", result="succeeded") == 1
    assert host.value("image_collected_bytes_total") == 4096
    assert host.value("state_bytes", kind="layers") == 7


def test_vms_that_wait_are_counted_by_what_for(host: Host) -> None:
    waits = tuple(WaitStatus(kind, "why") for kind in ("budget", "image", "image"))
    host.now = fleet(vm("web", waits=waits), vm("db", waits=waits[:1], candidate=GENERATION))
    assert host.value("waiting_vms", kind="budget") == 2
    assert host.value("waiting_vms", kind="image") == 1
    assert host.value("waiting_vms", kind="port") == 0
    assert host.value("candidates") == 1


def test_how_far_the_newest_revisions_came_is_told_by_when_they_were_first_seen(
    host: Host,
) -> None:
    def stages(revision: RevisionStatus) -> list[float]:
        host.now = replace(host.now, revision=revision)
        told = host.series("source_revision_timestamp_seconds")
        found = {labels["stage"]: value for labels, value in told}
        return [found[stage] for stage in ("fetched", "validated", "applied")]

    assert stages(RevisionStatus(None, None)) == [0, 0, 0]
    assert stages(RevisionStatus(FIRST, None, seen_wall=100.0)) == [100, 100, 0]
    assert stages(RevisionStatus(FIRST, FIRST, seen_wall=100.0)) == [100, 100, 100]
    refused = RevisionStatus(FIRST, FIRST, SECOND, ("bad",), 100.0, 150.0)
    assert stages(refused) == [150, 100, 100]
    assert stages(RevisionStatus(SECOND, FIRST, seen_wall=200.0)) == [200, 200, 100]


def test_a_vm_is_shown_with_the_hypervisor_of_its_guest() -> None:
    host = Host(vm("web", hypervisor="qemu"), vm("db", hypervisor="of-tomorrow"))
    shown = {labels["vm"]: labels["hypervisor"] for labels, _ in host.series("vm_info")}
    assert shown == {"web": "qemu", "db": "of-tomorrow"}


async def test_a_guest_that_left_the_repository_keeps_its_hypervisor_in_the_status() -> None:
    world = World()
    await world.push(state(declared("web"), declared("db")))
    await world.step()
    assert {one.hypervisor for one in world.status().vms} == {"qemu"}, "declared is enough"
    await world.settle()
    await world.push(state(declared("db")))
    await world.step()
    assert [one.hypervisor for one in world.status().vms] == ["qemu", "qemu"]
