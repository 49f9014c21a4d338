"""Counters and histograms of one daemon, fed by the engine as things happen."""

from __future__ import annotations

import collections
import platform
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_text

from reconciler.metrics import host_series as fleet, label_sets
from reconciler.metrics.disk_usage import KINDS
from reconciler.metrics.image_meter import ImageMeter
from reconciler.model.checks import CHECK_KINDS
from reconciler.model.guest_reports import GuestFigures
from reconciler.model.status import HostStatus, VMStatus
from reconciler.spans import trace_of

# Upper bounds in seconds, few, as each is a series for each label; each range from the fastest worth telling apart to the longest deadline.
FETCH_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30, 120)
PASS_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30)
PROBE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 0.5, 1, 5)
PHASE_BUCKETS = (0.25, 1, 2.5, 5, 10, 30, 120, 600)
GAP_BUCKETS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
STATE_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1, 5)
RUNNING_BUCKETS = (1, 2.5, 5, 10, 20, 30, 60, 120, 300, 1800, 7200)


PREFIX = "reconciler_"
END = b"# EOF\n"
MOST_ROLLBACKS = 10_000
"""Groups, causes and ends that are counted; the one that was met first is forgotten first."""


def exemplar_of(revision: str) -> dict[str, str] | None:
    """The trace of the commit: the newest one of each bucket is shown, to those who read OpenMetrics."""
    return {"trace_id": trace_of(revision)} if revision else None


def free_bytes(folder: Path) -> float:
    """Bytes free for this user on the file system of `folder`; 0 if it cannot be asked."""
    try:
        return float(shutil.disk_usage(folder).free)
    except OSError:
        return 0.0


class Metrics:
    """All series of one daemon, in a registry of its own.

    The engine calls the methods; each is a few microseconds and never fails on a closed label.
    `status` is asked at every scrape, so a VM that is gone leaves no series behind.
    """

    def __init__(
        self,
        status: Callable[[], HostStatus],
        *,
        version: str,
        started_wall: float,
        sources: Iterable[str] = ("main",),
        components: Iterable[str] = label_sets.COMPONENTS,
        sinks: Iterable[str] = (),
        disk: tuple[Path, int] = (Path("/"), 0),
    ) -> None:
        """`disk`: the folder of the state, and the bytes that must stay free there."""
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._status = status
        self.figures: Callable[[VMStatus], GuestFigures | None] = lambda _: None
        """What a guest did and has; the daemon puts the sampler's answers here."""
        self._applied_seen = 0.0
        """When the revision was first seen that every VM reached last."""
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._make_process(version, started_wall, components)
        self._make_source(tuple(sources))
        self._make_passes()
        self._make_rollouts()
        self._make_images_and_state()
        self._make_notifications(tuple(sinks))
        self._make_disk(*disk)

    def _make_process(self, version: str, started_wall: float, components: Iterable[str]) -> None:
        info = self._gauge("build_info", "1; what runs.", ("version", "python_version"))
        info.labels(version, platform.python_version()).set(1)
        self._gauge("start_timestamp_seconds", "When the daemon started.").set(started_wall)
        self._ticks = self._gauge(
            "component_last_tick_timestamp_seconds",
            "When each part of the daemon last went round; from the start for one that has not yet.",
            ("component",),
        )
        for component in components:
            self._ticks.labels(component).set(started_wall)

    def _make_source(self, sources: tuple[str, ...]) -> None:
        self._fetches = self._counter(
            "source_fetch_total",
            "Looks at a source.",
            source=sources,
            result=label_sets.FETCH_RESULTS,
        )
        self._source_errors = self._counter(
            "source_errors_total",
            "Looks that failed.",
            source=sources,
            reason=label_sets.SOURCE_REASONS,
        )
        self._fetch_seconds = self._histogram(
            "source_fetch_duration_seconds", "Time of a look.", FETCH_BUCKETS, source=sources
        )

        self._webhooks = Counter(
            f"{PREFIX}webhook_requests_total",
            "Webhooks that came in.",
            ("provider", "result"),
            registry=self._registry,
        )
        for provider, result in (
            *product(label_sets.GIT_SERVERS, label_sets.WEBHOOK_RESULTS),
            label_sets.NO_WEBHOOK,
        ):
            self._webhooks.labels(provider, result)

    def _make_passes(self) -> None:
        self._passes = self._counter("reconcile_total", "Passes.", result=label_sets.PASS_RESULTS)
        self._pass_seconds = self._histogram(
            "reconcile_duration_seconds", "Time of a pass, slow actions apart.", PASS_BUCKETS
        )
        self._panics = self._counter("reconcile_panics_total", "Passes that met a bug of ours.")
        self._actions = self._counter(
            "actions_total", "Slow actions that were begun.", action=label_sets.ACTIONS
        )
        self._drifts = self._counter(
            "drift_total",
            "What left the desired state by itself: a guest that ended or failed its checks, an image.",
            kind=label_sets.DRIFTS,
        )
        self._operations = self._gauge("operations_running", "Slow actions of VMs under way.")
        self._oldest_operation = self._gauge(
            "operation_oldest_timestamp_seconds", "When the oldest of these began; 0: none runs."
        )
        self._probes = self._counter(
            "probe_total", "Answers of checks.", type=CHECK_KINDS, result=label_sets.PROBE_RESULTS
        )
        self._probe_seconds = self._histogram(
            "probe_duration_seconds", "Time of a check.", PROBE_BUCKETS, type=CHECK_KINDS
        )

    def _make_disk(self, state: Path, reserve_bytes: int) -> None:
        free = self._gauge("state_free_bytes", "Space where state_dir lies; 0: it cannot be asked.")
        free.set_function(lambda: free_bytes(state))
        self._stock = self._gauge(
            "state_bytes",
            "What folders of state_dir take; looked up every five minutes.",
            ("kind",),
        )
        self.stocked(dict.fromkeys(KINDS, 0))
        self._gauge(
            "state_reserve_bytes", "Free space below which nothing is built or started."
        ).set(reserve_bytes)

    def _make_rollouts(self) -> None:
        self._rollouts = self._counter(
            "rollouts_total",
            "New generations of VMs that were committed or condemned.",
            result=label_sets.ROLLOUT_RESULTS,
        )
        self._check_trials = self._counter(
            "check_trials_total",
            "Changed checks of VMs that were taken or refused, at no guest's cost.",
            result=label_sets.ROLLOUT_RESULTS,
        )
        self._gaps = self._histogram(
            "vm_downtime_seconds",
            "How long a VM did not serve; planned: for a stop. Those under way do not count yet.",
            GAP_BUCKETS,
            cause=label_sets.GAP_CAUSES,
        )
        self._rollbacks: collections.Counter[tuple[str, str, str]] = collections.Counter()
        """By group, reason and result; groups come and go, so their series are written with them."""
        self._phase_seconds = self._histogram(
            "rollout_phase_duration_seconds",
            "Time in a phase of a VM.",
            PHASE_BUCKETS,
            phase=label_sets.PHASES,
        )
        self._running_seconds = self._histogram(
            "commit_to_running_seconds",
            "From a revision first seen to its last VM committed.",
            RUNNING_BUCKETS,
        )

    def _make_images_and_state(self) -> None:
        self._images = ImageMeter(self._counter, self._histogram)
        self._write_seconds = self._histogram(
            "state_write_duration_seconds", "Time until a write was durable.", STATE_BUCKETS
        )
        self._state_errors = self._counter(
            "state_errors_total", "Failures of the ledger.", op=label_sets.STATE_OPERATIONS
        )
        self._recoveries = self._counter(
            "state_recovered_total", "Damaged ledgers that were moved aside."
        )

    def _make_notifications(self, sinks: tuple[str, ...]) -> None:
        self._notifications = self._counter(
            "notifications_total",
            "Messages to a sink: delivered, failed and tried again, or dropped.",
            sink=sinks,
            result=label_sets.NOTIFICATION_RESULTS,
        )
        self._waiting = self._gauge(
            "notifications_pending", "Messages that wait for a sink.", ("sink",)
        )
        self._oldest = self._gauge(
            "notifications_oldest_timestamp_seconds",
            "When the oldest that waits for a sink happened; 0: none waits.",
            ("sink",),
        )
        for sink in sinks:
            self.notifications_waiting(sink, 0, 0.0)

    def component_ticked(self, name: str, now_wall: float) -> None:
        """A part of the daemon went round, at `now_wall` in Unix seconds."""
        self._ticks.labels(name).set(now_wall)

    def fetch_ended(self, source: str, result: str, seconds: float, reason: str = "") -> None:
        """`reason` is the kind of the SourceError or ManifestErrors when the result is `error`."""
        self._fetches.labels(source, result).inc()
        self._fetch_seconds.labels(source).observe(seconds)
        if reason:
            self._source_errors.labels(source, reason).inc()

    def webhook_received(self, provider: str, result: str) -> None:
        """`provider` is one of GIT_SERVERS or NO_WEBHOOK, `result` one of WEBHOOK_RESULTS."""
        self._webhooks.labels(provider, result).inc()

    def pass_ended(self, result: str, seconds: float) -> None:
        """`result` is one of PASS_RESULTS."""
        self._passes.labels(result).inc()
        self._pass_seconds.observe(seconds)

    def panicked(self) -> None:
        """A pass ended in an error that was not foreseen."""
        self._panics.inc()

    def began(self, actions: Mapping[str, int]) -> None:
        """Actions that were begun, by kind."""
        for action, count in actions.items():
            self._actions.labels(action).inc(count)

    def drifted(self, kind: str) -> None:
        """Something was found other than it was left; `kind` is one of DRIFTS."""
        self._drifts.labels(kind).inc()

    def gap_ended(self, cause: str, seconds: float) -> None:
        """A VM that had no healthy guest for `seconds` has one; `cause` is one of GAP_CAUSES."""
        self._gaps.labels(cause).observe(seconds)

    def collected(self, freed: int, *, failed: bool) -> None:
        """Unused images and folders were removed; `freed` in bytes."""
        self._images.collected(freed, failed=failed)

    def stocked(self, bytes_by_kind: Mapping[str, int]) -> None:
        """What the state directory takes of the disk in bytes, by the kinds of KINDS."""
        for kind, size in bytes_by_kind.items():
            self._stock.labels(kind).set(size)

    def image_checked(self, result: str) -> None:
        """All bytes of an image were read again; `result` is one of CHECK_RESULTS."""
        self._images.image_checked(result)

    def operating(self, running: int, oldest_wall: float) -> None:
        """Actions under way, and when the oldest began in Unix seconds; 0: none is."""
        self._operations.set(running)
        self._oldest_operation.set(oldest_wall)

    def probe_answered(self, kind: str, result: str, seconds: float) -> None:
        """One check was asked; `kind` is one of CHECK_KINDS, `result` one of PROBE_RESULTS."""
        self._probes.labels(kind, result).inc()
        self._probe_seconds.labels(kind).observe(seconds)

    def rollout_ended(self, result: str) -> None:
        """`result` is one of ROLLOUT_RESULTS."""
        self._rollouts.labels(result).inc()

    def check_trial_ended(self, result: str) -> None:
        """A trial of changed checks ended; `result` is one of ROLLOUT_RESULTS."""
        self._check_trials.labels(result).inc()

    def rollback_ended(self, group: str, reason: str, result: str) -> None:
        """`reason` is one of ROLLBACK_REASONS, `result` one of ROLLBACK_RESULTS."""
        self._rollbacks[group, reason, result] += 1
        if len(self._rollbacks) > MOST_ROLLBACKS:  # of groups that have gone, most likely
            del self._rollbacks[next(iter(self._rollbacks))]

    def phase_ended(self, phase: str, seconds: float, revision: str = "") -> None:
        """A VM's update passed one of PHASES; the revision's trace is the exemplar."""
        self._phase_seconds.labels(phase).observe(seconds, exemplar_of(revision))

    def revision_running(self, seconds: float, revision: str = "") -> None:
        """A revision runs everywhere, `seconds` after it was first seen."""
        self._running_seconds.observe(seconds, exemplar_of(revision))

    def build_ended(self, result: str, seconds: float, revision: str = "") -> None:
        """`result` is one of BUILD_RESULTS; only what was built has a duration."""
        self._images.build_ended(result, seconds, exemplar_of(revision))

    def state_written(self, seconds: float) -> None:
        """One transaction of the ledger."""
        self._write_seconds.observe(seconds)

    def state_failed(self, op: str) -> None:
        """`op` is one of STATE_OPERATIONS."""
        self._state_errors.labels(op).inc()

    def state_recovered(self) -> None:
        """A damaged ledger was put aside, and a new one begun."""
        self._recoveries.inc()

    def notification_ended(self, sink: str, result: str) -> None:
        """`result` is one of NOTIFICATION_RESULTS."""
        self._notifications.labels(sink, result).inc()

    def notifications_waiting(self, sink: str, pending: int, oldest_wall: float) -> None:
        """Messages that wait for a sink, and when the oldest happened in Unix seconds; 0: none."""
        self._waiting.labels(sink).set(pending)
        self._oldest.labels(sink).set(oldest_wall)

    def render(self, *, openmetrics: bool = False) -> bytes:
        """The text that Prometheus scrapes, in the exposition format 0.0.4.

        As OpenMetrics it has exemplars too: the trace of a commit beside a number.
        """
        status = self._status()
        revision = status.revision
        if revision.observed is not None and revision.applied == revision.observed:
            self._applied_seen = revision.seen_wall or 0.0
        now = fleet.render(
            status, self._rollbacks, self.figures,
            applied_seen=self._applied_seen, openmetrics=openmetrics,
        )  # fmt: skip
        if not openmetrics:
            return generate_latest(self._registry) + now
        own: bytes = openmetrics_text(self._registry)  # type: ignore[no-untyped-call]
        return own.removesuffix(END) + now + END

    def _counter(self, name: str, text: str, **closed: Sequence[str]) -> Counter:
        counter = Counter(f"{PREFIX}{name}", text, tuple(closed), registry=self._registry)
        for values in product(*closed.values()) if closed else ():
            counter.labels(*values)
        return counter

    def _gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(f"{PREFIX}{name}", text, labels, registry=self._registry)

    def _histogram(
        self, name: str, text: str, buckets: Sequence[float], **closed: Sequence[str]
    ) -> Histogram:
        histogram = Histogram(
            f"{PREFIX}{name}", text, tuple(closed), buckets=buckets, registry=self._registry
        )
        for values in product(*closed.values()) if closed else ():
            histogram.labels(*values)
        return histogram
