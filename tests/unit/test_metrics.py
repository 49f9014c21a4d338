"""What /metrics says."""

import platform
import re
from collections import Counter
from dataclasses import replace
from typing import get_args

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from reconciler.engine.metering import Meter
from reconciler.metrics import Metrics
from reconciler.metrics.label_sets import ACTIONS, ROLLBACKS, SOURCE_REASONS
from reconciler.model.checks import CHECK_KINDS
from reconciler.model.image import StoredKind
from reconciler.model.names import GenerationNumber, GroupName, VMName
from reconciler.model.revision_result import Conclusion
from reconciler.model.status import (
    GenerationNumbers,
    GroupStatus,
    HostStatus,
    RestartStatus,
    RevisionStatus,
    RolloutState,
    SourceStatus,
    SyncState,
    VMState,
    VMStatus,
)
from reconciler.model.waits import WaitKind

FIRST, SECOND = "a" * 40, "b" * 40
STARTED = 1_790_000_000.25

NAMES = {
    "build_info",
    "start_timestamp_seconds",
    "component_last_tick_timestamp_seconds",
    "suspended",
    "source_fetch_total",
    "source_fetch_duration_seconds",
    "source_errors_total",
    "webhook_requests_total",
    "source_last_success_timestamp_seconds",
    "source_consecutive_failures",
    "revision_result",
    "source_revision_info",
    "manifest_errors",
    "reconcile_total",
    "reconcile_duration_seconds",
    "reconcile_panics_total",
    "actions_total",
    "drift_total",
    "waiting_vms",
    "candidates",
    "vm_downtime_seconds",
    "source_revision_timestamp_seconds",
    "state_bytes",
    "image_collections_total",
    "image_collected_bytes_total",
    "image_checks_total",
    "image_store_bytes",
    "image_store_images",
    "image_store_saved_bytes",
    "image_store_max_bytes",
    "image_store_oldest_check_timestamp_seconds",
    "vm_info",
    "vm_state",
    "vm_sync_status",
    "vm_healthy",
    "vm_live",
    "vm_crashes",
    "vm_desired_generation",
    "vm_running_generation",
    "vm_last_good_generation",
    "vm_restarts_total",
    "vm_start_timestamp_seconds",
    "vm_cpu_seconds_total",
    "vm_resident_memory_bytes",
    "vm_disk_read_bytes_total",
    "vm_disk_written_bytes_total",
    "vm_disk_operations_total",
    "vm_memory_bytes",
    "vm_memory_available_bytes",
    "vm_network_received_bytes_total",
    "vm_network_sent_bytes_total",
    "vm_network_packets_total",
    "probe_total",
    "probe_duration_seconds",
    "rollout_state",
    "rollout_pending_vms",
    "rollouts_total",
    "check_trials_total",
    "rollbacks_total",
    "rollout_phase_duration_seconds",
    "unavailable_vms",
    "unavailable_budget",
    "blocked_generations",
    "image_build_total",
    "image_build_duration_seconds",
    "state_write_duration_seconds",
    "state_errors_total",
    "state_recovered_total",
    "commit_to_running_seconds",
    "rollout_deadline_timestamp_seconds",
    "operations_running",
    "operation_oldest_timestamp_seconds",
    "state_free_bytes",
    "state_reserve_bytes",
    "notifications_total",
    "notifications_pending",
    "notifications_oldest_timestamp_seconds",
}


def vm(name: str, state: VMState = "running", **changes: object) -> VMStatus:
    status = VMStatus(
        name=VMName(name),
        group=GroupName("front"),
        state=state,
        healthy=True,
        sync="synced",
        generation=GenerationNumbers(GenerationNumber(2), GenerationNumber(3), GenerationNumber(2)),
        pid=77,
        why="",
        started_wall=STARTED,
    )
    return replace(status, **changes)  # type: ignore[arg-type]


def fleet(*vms: VMStatus, revision: str = FIRST) -> HostStatus:
    return HostStatus(
        revision=RevisionStatus(
            revision, revision, None, ("web.yaml:1:1: bad", "db.yaml:2:1: bad")
        ),
        vms=vms,
        groups=(GroupStatus(GroupName("front"), "held", len(vms), 1, 1, 2),),
        suspended=False,
        sources=(SourceStatus("main", "file:///srv/fleet.git", STARTED, 3),),
    )


class Host:
    """A daemon's state, and its metrics."""

    def __init__(self, *vms: VMStatus) -> None:
        self.now = fleet(*vms)
        self.metrics = Metrics(
            lambda: self.now, version="1.2.3", started_wall=STARTED, sinks=("ops",)
        )

    def families(self) -> dict[str, Metric]:
        text = self.metrics.render().decode()
        return {family.name: family for family in text_string_to_metric_families(text)}

    def value(self, name: str, /, **labels: str) -> float | None:
        return next((v for found, v in self.series(name) if found == labels), None)

    def series(self, name: str) -> list[tuple[dict[str, str], float]]:
        wanted = f"reconciler_{name}"
        return [
            (sample.labels, sample.value)
            for family in self.families().values()
            for sample in family.samples
            if sample.name == wanted
        ]


@pytest.fixture
def host() -> Host:
    return Host(vm("web"), vm("db"))


def test_every_metric_of_ours_is_there_before_anything_happened(host: Host) -> None:
    heads = re.findall(r"^# TYPE reconciler_(\S+)", host.metrics.render().decode(), re.MULTILINE)
    assert set(heads) == NAMES
    assert len(heads) == len(NAMES), "a family is announced once"


def test_every_counter_of_a_closed_label_set_begins_at_zero(host: Host) -> None:
    expected = {
        "source_fetch_total": 3,
        "source_errors_total": len(SOURCE_REASONS),
        "reconcile_total": 5,
        "reconcile_panics_total": 1,
        "actions_total": len(ACTIONS),
        "drift_total": 2,
        "revision_result": len(get_args(Conclusion)),
        "waiting_vms": len(get_args(WaitKind)),
        "webhook_requests_total": 4 * 6 + 1,
        "image_collections_total": 2,
        "image_collected_bytes_total": 1,
        "image_checks_total": 4,
        "image_store_bytes": 4 * len(get_args(StoredKind)),
        "image_store_images": 5,
        "state_bytes": 6,
        "probe_total": 3 * len(CHECK_KINDS),
        "rollouts_total": 2,
        "check_trials_total": 2,
        "rollbacks_total": 2 * len(ROLLBACKS),
        "image_build_total": 6,
        "state_errors_total": 3,
        "state_recovered_total": 1,
        "notifications_total": 3,
    }
    for name, count in expected.items():
        assert [value for _, value in host.series(name)] == [0.0] * count, name


def test_histograms_have_their_labels_from_the_start(host: Host) -> None:
    assert host.value("probe_duration_seconds_count", type="tcp") == 0
    assert host.value("rollout_phase_duration_seconds_count", phase="soak") == 0
    assert host.value("source_fetch_duration_seconds_count", source="main") == 0


def test_no_created_series_are_exported(host: Host) -> None:
    assert b"_created" not in host.metrics.render()


def test_two_daemons_in_one_process_share_no_series() -> None:
    one, other = Host(), Host()
    one.metrics.panicked()
    assert one.value("reconcile_panics_total") == 1
    assert other.value("reconcile_panics_total") == 0


def test_a_vanished_vm_leaves_no_series(host: Host) -> None:
    assert b'"web"' in host.metrics.render()
    host.now = fleet(vm("db"))
    assert b'"web"' not in host.metrics.render()
    assert b'"db"' in host.metrics.render()


def test_a_vm_has_at_most_thirty_series_and_no_vm_adds_to_anothers() -> None:
    reasons = tuple((reason, 3) for reason in ("crash", "manual", "rollback", "rollout"))
    last = RestartStatus(STARTED, "crash", "exit status 1")
    host = Host(
        *(
            vm(f"vm-{n}", restarts=reasons, suspended=True, restarted=last, alive=True)
            for n in range(5)
        )
    )
    counts: Counter[str] = Counter()
    for family in host.families().values():
        for sample in family.samples:
            labels = sample.labels
            if "vm" in labels:
                counts[labels["vm"]] += 1
    assert set(counts) == {f"vm-{number}" for number in range(5)}
    assert set(counts.values()) == {19}


@pytest.mark.shows(fault=71)
def test_readiness_liveness_and_crashes_of_a_vm_are_told_apart() -> None:
    last = RestartStatus(STARTED, "crash", "exit status 1")
    host = Host(
        vm("ready", healthy=True, alive=True),
        vm("waits", healthy=False, alive=True),
        vm("loops", healthy=False, alive=False, crashes=7, restarted=last),
        vm("unasked", healthy=False, unasked=True),
    )
    told = {
        name: {labels["vm"]: value for labels, value in host.series(name)}
        for name in ("vm_healthy", "vm_live", "vm_crashes")
    }
    assert told["vm_healthy"] == {"ready": 1, "waits": 0, "loops": 0}
    assert told["vm_live"] == {"waits": 1, "loops": 0}
    assert told["vm_crashes"] == {"loops": 7}


def test_a_group_has_at_most_twenty_five_series(host: Host) -> None:
    counts = Counter(
        sample.labels.get("group") or sample.labels.get("name")
        for family in host.families().values()
        for sample in family.samples
        if "vm" not in sample.labels
    )
    assert counts["front"] <= 25


def test_everything_but_vms_and_groups_is_bounded_also_with_four_sinks() -> None:
    metrics = Metrics(
        lambda: replace(fleet(), groups=()),
        version="1.2.3", started_wall=STARTED, sinks=("ops", "chat", "mail", "alerts"),
    )  # fmt: skip
    families = text_string_to_metric_families(metrics.render().decode())
    assert 350 < sum(len(family.samples) for family in families) <= 450


@pytest.mark.parametrize("state", get_args(VMState))
def test_exactly_one_state_of_a_vm_is_one_and_none_while_nobody_knows(state: VMState) -> None:
    host = Host(vm("web", state))
    values = {labels["state"]: value for labels, value in host.series("vm_state")}
    assert values == {one: float(one == state) for one in get_args(VMState) if one != "unknown"}


@pytest.mark.parametrize("sync", get_args(SyncState))
def test_exactly_one_sync_status_of_a_vm_is_one_and_none_while_nobody_knows(
    sync: SyncState,
) -> None:
    host = Host(vm("web", sync=sync))
    values = {labels["status"]: value for labels, value in host.series("vm_sync_status")}
    assert values == {one: float(one == sync) for one in get_args(SyncState) if one != "unknown"}


def test_a_group_says_its_state_budget_and_blocked_generations(host: Host) -> None:
    host.now = fleet(vm("web", blocked=2), vm("db", blocked=1), vm("lone", group="", blocked=4))
    values = {labels["state"]: value for labels, value in host.series("rollout_state")}
    assert values == {one: float(one == "held") for one in get_args(RolloutState)}
    assert host.value("unavailable_vms", group="front") == 1
    assert host.value("unavailable_budget", group="front") == 1
    assert host.value("blocked_generations", group="front") == 3
    assert host.value("blocked_generations", group="") == 4


def test_generations_that_do_not_exist_are_zero_and_a_stopped_guest_has_no_start(
    host: Host,
) -> None:
    none = GenerationNumbers(None, None, None)
    host.now = fleet(vm("web"), vm("new", "stopped", generation=none, started_wall=None))
    assert host.value("vm_running_generation", vm="web") == 2
    assert host.value("vm_desired_generation", vm="web") == 3
    assert host.value("vm_running_generation", vm="new") == 0
    assert host.value("vm_start_timestamp_seconds", vm="web") == STARTED
    assert host.value("vm_start_timestamp_seconds", vm="new") is None


def test_restarts_are_counted_by_reason_with_zeros_and_reasons_of_a_newer_record(
    host: Host,
) -> None:
    host.now = fleet(vm("web", restarts=(("crash", 4), ("solar-flare", 1))))
    counts = {labels["reason"]: value for labels, value in host.series("vm_restarts_total")}
    assert counts == {"crash": 4, "rollout": 0, "rollback": 0, "manual": 0, "solar-flare": 1}


def test_a_source_has_exactly_one_live_revision(host: Host) -> None:
    assert host.series("source_revision_info") == [({"source": "main", "commit": FIRST}, 1.0)]
    host.now = fleet(revision=SECOND)
    assert host.series("source_revision_info") == [({"source": "main", "commit": SECOND}, 1.0)]
    assert host.value("source_last_success_timestamp_seconds", source="main") == STARTED
    assert host.value("source_consecutive_failures", source="main") == 3
    assert host.value("manifest_errors") == 2


@pytest.mark.shows(promise=13)
def test_suspension_is_told_for_the_host_and_its_groups(host: Host) -> None:
    host.now = replace(fleet(vm("web"), vm("db")), suspended=True)
    assert host.value("suspended", scope="host", name="") == 1
    assert host.value("suspended", scope="group", name="front") == 0


def test_text_that_could_break_a_line_is_escaped(host: Host) -> None:
    odd = 'a "quoted"\\back\nline'
    host.now = fleet(vm("web", restarts=((odd, 1), ("\udcff", 2))))
    counts = {labels["reason"]: value for labels, value in host.series("vm_restarts_total")}
    assert counts[odd] == 1
    assert counts["?"] == 2


def test_a_sink_shows_what_it_took_and_what_waits_for_it(host: Host) -> None:
    host.metrics.notification_ended("ops", "dropped")
    host.metrics.notifications_waiting("ops", 7, STARTED)

    assert host.value("notifications_total", sink="ops", result="dropped") == 1
    assert host.value("notifications_pending", sink="ops") == 7
    assert host.value("notifications_oldest_timestamp_seconds", sink="ops") == STARTED


def test_a_group_that_is_gone_takes_its_rollbacks_with_it(host: Host) -> None:
    host.metrics.rollback_ended("front", "exited", "succeeded")
    host.metrics.rollback_ended("", "panicked", "failed")
    assert {labels["group"] for labels, _ in host.series("rollbacks_total")} == {"front", ""}
    host.now = replace(host.now, groups=())
    assert {labels["group"] for labels, _ in host.series("rollbacks_total")} == {""}
    assert host.value("rollbacks_total", group="", reason="panicked", result="failed") == 1


def test_the_engines_meter_is_satisfied_and_the_build_is_named(host: Host) -> None:
    meter: Meter = host.metrics
    meter.panicked()
    python = platform.python_version()
    assert host.value("build_info", version="1.2.3", python_version=python) == 1
    assert host.value("start_timestamp_seconds") == STARTED
