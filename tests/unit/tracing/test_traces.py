"""One trace a commit, from the look at the repository to the last healthy guest."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from reconciler import daemon
from reconciler.clock import SystemClock
from reconciler.config import GitSourceConfig, KernelsConfig, PolicyConfig, parse_config
from reconciler.errors import ConfigError, ManifestErrors
from reconciler.source.git.source import GitSource
from reconciler.spans import UNTRACED, Tracer
from reconciler.tracing.otel import OtelTracer, over_http
from tests.unit.source.repositories import Repository, vm as manifest
from tests.unit.tracing.collector import Collector, collecting
from tests.world import World, state, vm

OF_A_ROLLOUT = {"commit", "plan", "build", "create", "start", "probe", "soak"}


class Traced(World):
    """A world whose spans are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = InMemorySpanExporter()
        self.tracer = self.otel = OtelTracer(self.kept, self.clock, "1.2.3")
        self._boot()

    def finished(self) -> list[ReadableSpan]:
        self.otel.close()
        return list(self.kept.get_finished_spans())


def trace_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


def of_commit(spans: list[ReadableSpan], revision: str) -> list[ReadableSpan]:
    found = [span for span in spans if trace_of(span) == revision[:32]]
    assert {(span.attributes or {})["revision"] for span in found} == {revision}
    return found


async def test_a_rollout_is_one_trace_whose_parts_lie_within_the_commit() -> None:
    world = Traced()
    first, second = state(vm("web"), vm("db")), state(vm("web", "v2"), vm("db"))
    for desired in (first, second):
        await world.push(desired)
        await world.settle()
    spans = world.finished()
    assert {trace_of(span) for span in spans} == {first.revision[:32], second.revision[:32]}
    mine = of_commit(spans, second.revision)
    assert {span.name for span in mine} == {*OF_A_ROLLOUT, "stop"}
    (root,) = (span for span in mine if span.name == "commit")
    assert root.attributes is not None
    assert root.attributes["outcome"] == "applied"
    assert root.parent is None
    assert root.context is not None
    for span in mine:
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.start_time <= span.end_time <= (root.end_time or 0)
        if span is not root:
            assert span.parent is not None
            assert span.parent.span_id == root.context.span_id
    touched = {(span.attributes or {}).get("subject") for span in mine if span.name == "soak"}
    assert touched == {"web"}


async def test_a_failing_commit_has_the_failure_and_the_way_back_in_its_trace() -> None:
    world = Traced()
    await world.push(state(vm("web")))
    await world.settle()
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    bad = state(vm("web", "v2"))
    await world.push(bad)
    await world.settle()
    mine = of_commit(world.finished(), bad.revision)
    failed = [span for span in mine if not span.status.is_ok and span.name == "probe"]
    assert "startupDeadline" in (failed[0].status.description or "")
    (root,) = (span for span in mine if span.name == "commit")
    assert (root.attributes or {})["outcome"] == "rolled back"
    assert [span.name for span in mine].count("start") == 2


async def test_a_restart_of_the_daemon_does_not_part_a_trace() -> None:
    world = Traced()
    desired = state(vm("web"))
    await world.push(desired)
    for _ in range(3):
        await world.step()
    await world.restart()
    await world.settle()
    spans = world.finished()
    assert {trace_of(span) for span in spans} == {desired.revision[:32]}
    assert sum(span.name == "commit" for span in spans) == 1


async def test_when_nothing_changes_there_is_no_span() -> None:
    world = Traced()
    await world.push(state(vm("web")))
    await world.settle()
    world.otel._provider.force_flush()
    before = len(world.kept.get_finished_spans())
    for _ in range(20):
        world.clock.advance(30)
        await world.step()
    assert len(world.finished()) == before


def a_source(repository: Path, folder: Path, tracer: Tracer) -> GitSource:
    return GitSource(
        GitSourceConfig(url=str(repository)), PolicyConfig(), KernelsConfig(), folder / "git",
        SystemClock(), tracer,
    )  # fmt: skip


async def test_reading_a_commit_is_fetch_verify_and_load_once(tmp_path: Path) -> None:
    repository, kept = Repository(tmp_path / "r.git"), InMemorySpanExporter()
    tracer = OtelTracer(kept, SystemClock(), "1.2.3")
    source = a_source(repository.path, tmp_path, tracer)
    good = repository.commit({"a.yaml": manifest("a")})
    await source.fetch()
    await source.fetch()
    bad = repository.commit({"a.yaml": manifest("a", spec="memory: much")})
    for _ in range(2):
        with pytest.raises(ManifestErrors):
            await source.fetch()
    await source.close()
    tracer.close()
    spans = list(kept.get_finished_spans())
    assert [span.name for span in of_commit(spans, good)] == ["fetch", "verify", "load"]
    assert [(span.name, span.status.is_ok) for span in of_commit(spans, bad)] == [
        ("fetch", True),
        ("verify", True),
        ("load", False),
    ]


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as server:
        yield server


def endpoint(port: int) -> str:
    return f"http://127.0.0.1:{port}/v1/traces"


def test_spans_reach_a_collector_over_http(collector: Collector) -> None:
    tracer = OtelTracer(over_http(endpoint(collector.server_port)), SystemClock(), "1.2.3")
    tracer.span("a" * 40, "fetch", 0.5)
    tracer.commit_ended("a" * 40, SystemClock().now().wall - 2, "applied")
    tracer.commit_ended("a" * 40, SystemClock().now().wall - 2, "overtaken")
    tracer.close()
    assert [span.name for span in collector.spans] == ["fetch", "commit"]


def test_a_collector_that_never_answers_holds_up_the_end_for_two_exports_at_most() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        tracer = OtelTracer(over_http(endpoint(silent.getsockname()[1])), SystemClock(), "1.2.3")
        for _ in range(2000):
            tracer.span("a" * 40, "fetch", 1.0)
        tracer.close()
        silent.settimeout(0)
        connections = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                silent.accept()[0].close()
                connections += 1
    assert 1 <= connections <= 2


def test_what_is_no_commit_has_no_trace_and_no_error() -> None:
    kept = InMemorySpanExporter()
    tracer = OtelTracer(kept, SystemClock(), "1.2.3")
    for revision in ("", "main", "0" * 40):
        tracer.span(revision, "fetch", 1.0)
        tracer.commit_ended(revision, 0.0, "applied")
    tracer.close()
    assert kept.get_finished_spans() == ()


def settings(**tracing: str) -> dict[str, object]:
    return {"source": {"url": "/srv/fleet.git"}, "tracing": tracing}


async def test_the_exporter_is_off_unless_an_endpoint_is_named() -> None:
    async with contextlib.AsyncExitStack() as stack:
        off = parse_config(settings(), "test")
        assert await daemon._tracer(off, SystemClock(), stack) is UNTRACED
        on = parse_config(settings(endpoint=endpoint(1)), "test")
        assert isinstance(await daemon._tracer(on, SystemClock(), stack), OtelTracer)
    with pytest.raises(ConfigError, match=r"tracing\.endpoint"):
        parse_config(settings(endpoint="localhost:4318"), "test")


def test_nothing_of_it_is_imported_while_it_is_off() -> None:
    code = "import sys, reconciler.daemon; print([n for n in sys.modules if 'opentelemetry' in n])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "[]\n"


async def test_without_the_extra_the_daemon_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in sys.modules if name.startswith("reconciler.tracing")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("reconciler.tracing.otel", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.context", None)
    on = parse_config(settings(endpoint=endpoint(1)), "test")
    async with contextlib.AsyncExitStack() as stack:
        with pytest.raises(ConfigError, match="not installed") as caught:
            await daemon._tracer(on, SystemClock(), stack)
    assert "microvm-reconciler[tracing]" in caught.value.hint


@pytest.mark.shows(fault=124)
def test_what_the_library_raises_fails_no_pass(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tracer = OtelTracer(InMemorySpanExporter(), SystemClock(), "1")

    def broken(*_: object, **__: object) -> None:
        raise AssertionError("of the library's own")

    monkeypatch.setattr(tracer._tracer, "start_span", broken)
    tracer.span("a" * 40, "plan", 1.0)
    tracer.commit_ended("a" * 40, 0.0, "applied")
    tracer.close()
    assert [one.message for one in caplog.records] == ["a span could not be made"] * 2
