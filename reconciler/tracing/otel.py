"""OpenTelemetry spans, exported over HTTP by a thread whose failures affect nothing else.

commit                       from first seen to applied, rolled back, quarantined or overtaken
|-- fetch, verify, load      reading it
|-- plan                     each pass that started something
|-- build                    a layer or kernel bundle
`-- stop, start, probe, soak of each VM, also when it is rolled back
"""

from __future__ import annotations

import hashlib
import logging
import socket
from collections import deque
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from reconciler.clock import Clock
from reconciler.spans import trace_of

log = logging.getLogger(__name__)
P = ParamSpec("P")

DEADLINE = 3
"""Seconds for one export. A stopping daemon waits for the export in progress and one more."""
MOST_WAITING = 512
"""Queued spans, as many as one export takes. Beyond them new spans are dropped: traces are optional."""
LONGEST_ERROR = 200
ENDED_KEPT = 100
"""Commits that are remembered as ended, so that each ends once."""
NANO = 1_000_000_000
WELL = {"applied", "overtaken"}


def never_fails(method: Callable[P, None]) -> Callable[P, None]:
    """Log what the wrapped method raises: no pass may fail because of a span."""

    @wraps(method)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(*args, **kwargs)
        except Exception:
            log.exception("a span could not be made")

    return guarded


class RootIds(RandomIdGenerator):
    """Derives the ids of a commit's own span from the commit, so that any daemon can refer to it; others are random."""

    root: tuple[int, int] | None = None

    def generate_trace_id(self) -> int:
        """The commit's, if its span is being made."""
        return self.root[0] if self.root else super().generate_trace_id()

    def generate_span_id(self) -> int:
        """The commit's, if its span is being made."""
        return self.root[1] if self.root else super().generate_span_id()


class OtelTracer:
    """The `Tracer` that exports to OpenTelemetry. `close` it when done."""

    def __init__(self, exporter: SpanExporter, clock: Clock, version: str) -> None:
        self._clock = clock
        self._host = socket.gethostname()
        self._ids = RootIds()
        self._ended: deque[str] = deque(maxlen=ENDED_KEPT)
        resource = Resource(
            {"service.name": "reconciler", "service.version": version, "host.name": self._host}
        )
        self._provider = TracerProvider(
            sampler=ALWAYS_ON, resource=resource, id_generator=self._ids, shutdown_on_exit=False
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                exporter, max_queue_size=MOST_WAITING, max_export_batch_size=MOST_WAITING,
                schedule_delay_millis=1000,
                export_timeout_millis=DEADLINE * 1000,
            )
        )  # fmt: skip
        self._tracer = self._provider.get_tracer("reconciler", version)

    @never_fails
    def span(
        self, revision: str, name: str, seconds: float, subject: str = "", error: str = ""
    ) -> None:
        """Record a span that ended now and took `seconds`."""
        ids = self._ids_of(revision)
        if ids is None:
            return
        # The parent is sent last, perhaps by a later daemon.
        root = SpanContext(*ids, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
        attributes = {"revision": revision} | ({"subject": subject} if subject else {})
        self._send(name, set_span_in_context(NonRecordingSpan(root)), seconds, attributes, error)

    @never_fails
    def commit_ended(self, revision: str, seen_wall: float, outcome: str) -> None:
        """Record the commit's own span, once."""
        ids = self._ids_of(revision)
        if ids is None or revision in self._ended:
            return
        self._ended.append(revision)
        seconds = max(0.0, self._clock.now().wall - seen_wall)
        self._ids.root = ids
        try:
            attributes = {"revision": revision, "outcome": outcome}
            error = "" if outcome in WELL else outcome
            self._send("commit", Context(), seconds, attributes, error)
        finally:
            self._ids.root = None

    def close(self) -> None:
        """Export queued spans, within the deadlines of two exports."""
        self._provider.shutdown()

    def _send(
        self, name: str, parent: Context, seconds: float, attributes: dict[str, str], error: str
    ) -> None:
        now = self._clock.now().wall
        span = self._tracer.start_span(
            name, parent, attributes=attributes, start_time=int((now - seconds) * NANO)
        )
        if error:
            span.set_status(Status(StatusCode.ERROR, error[:LONGEST_ERROR]))
        span.end(int(now * NANO))

    def _ids_of(self, revision: str) -> tuple[int, int] | None:
        """Trace id and span id of a commit on this host; None if the revision is not a commit id."""
        try:
            trace = int(trace_of(revision), 16)
        except ValueError:
            return None
        digest = hashlib.sha256(f"{self._host}\0{revision}".encode()).digest()
        return (trace, int.from_bytes(digest[:8], "big") or 1) if trace else None


def over_http(endpoint: str) -> SpanExporter:
    """An exporter to an OTLP endpoint over HTTP."""
    return OTLPSpanExporter(endpoint=endpoint, timeout=DEADLINE)
