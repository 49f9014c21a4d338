"""/metrics for those who ask for OpenMetrics: the same numbers, with examples beside some."""

from collections.abc import Iterable

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strictly

from tests.unit.test_metrics import FIRST, Host, vm


@pytest.fixture
def host() -> Host:
    return Host(vm("web"), vm("db"))


def openmetrics(host: Host) -> dict[str, Metric]:
    text = host.metrics.render(openmetrics=True).decode()
    return {family.name: family for family in strictly(text)}  # type: ignore[no-untyped-call]


def test_openmetrics_has_the_same_series_as_the_plain_text(host: Host) -> None:
    def numbers(families: Iterable[Metric]) -> dict[tuple[object, ...], float]:
        return {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
            if sample.name.startswith("reconciler_")
            and sample.name != "reconciler_state_free_bytes"  # others write to the disk meanwhile
        }

    host.metrics.rollback_ended("front", "exited", "succeeded")
    assert numbers(openmetrics(host).values()) == numbers(host.families().values())


def test_an_exemplar_names_the_trace_of_a_commit_and_only_openmetrics_has_it(host: Host) -> None:
    for seconds in (12.0, 14.0):
        host.metrics.phase_ended("start", seconds, FIRST)
    host.metrics.phase_ended("stop", 1.0)
    buckets = openmetrics(host)["reconciler_rollout_phase_duration_seconds"].samples
    found = [sample.exemplar for sample in buckets if sample.exemplar]
    assert [one.labels for one in found] == [{"trace_id": FIRST[:32]}]
    assert b"trace_id" not in host.metrics.render()
