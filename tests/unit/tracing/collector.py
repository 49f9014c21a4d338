"""What an OpenTelemetry collector is to those who send: it keeps the spans."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

END = 10.0


@dataclass(frozen=True)
class Received:
    name: str
    trace: str
    attributes: dict[str, str]


class Collector(http.server.ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.spans: list[Received] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/traces"

    def names(self, revision: str) -> set[str]:
        """Of the spans in the trace of a commit."""
        return {span.name for span in list(self.spans) if span.trace == revision[:32]}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = ExportTraceServiceRequest.FromString(body)
        assert isinstance(self.server, Collector)
        self.server.spans += [
            Received(
                span.name,
                span.trace_id.hex(),
                {one.key: one.value.string_value for one in span.attributes},
            )
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        self.send_response(http.HTTPStatus.OK)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Silent: the test shows what came."""


@contextmanager
def collecting() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(END)
