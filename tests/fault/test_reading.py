"""Revisions that cost too much, and a reading child that dies: the daemon goes on, and says why."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from reconciler.errors import RevisionRefused, SourceError
from reconciler.source.git.libgit2_limits import MIB
from reconciler.source.git.polling import FIRST_REST
from reconciler.source.git.source import GitSource
from tests.fakes import FakeClock
from tests.unit.source.repositories import Repository, source_of, vm

pytestmark = pytest.mark.shows(fault=48)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository.git")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def source(
    tmp_path: Path, repository: Repository, clock: FakeClock
) -> AsyncIterator[GitSource]:
    """One that has read a revision, so that its child lives."""
    repository.commit({"web.yaml": vm("web")})
    made = source_of(repository.path, tmp_path / "state", clock=clock, read_timeout=3.0)
    await made.fetch()
    yield made
    await made.close()


async def refused(source: GitSource) -> RevisionRefused:
    with pytest.raises(RevisionRefused) as caught:
        await source.fetch()
    assert source.status().failures == 0, (
        "the source answers well; it is the revision that is not taken"
    )
    return caught.value


def reader(source: GitSource) -> int:
    assert source.reader_pid is not None
    return source.reader_pid


async def hung(source: GitSource) -> int:
    """The child stands still, as one does that works without an end."""
    pid = reader(source)
    os.kill(pid, signal.SIGSTOP)
    return pid


async def test_a_revision_that_takes_too_long_is_refused_once_and_its_reader_ended(
    source: GitSource, repository: Repository
) -> None:
    pid = await hung(source)
    revision = repository.commit({"web.yaml": vm("web", spec="vcpu: 2")})
    error = await refused(source)
    assert (error.kind, error.revision) == ("timeout", revision)
    assert "were not read within 3 s" in str(error)
    assert "source.read_timeout" in error.hint
    assert not Path(f"/proc/{pid}").exists()
    assert str(await refused(source)) == str(error)
    assert source.reader_pid is None, "nobody tried again"


async def test_the_next_push_is_read_as_if_nothing_had_been(
    source: GitSource, repository: Repository
) -> None:
    await hung(source)
    repository.commit({"web.yaml": vm("web", spec="vcpu: 2")})
    await refused(source)
    repository.commit({"web.yaml": vm("web", spec="vcpu: 3")})
    fetched = await source.fetch()
    assert fetched.state is not None
    assert [spec.vcpu for spec in fetched.state.vms.values()] == [3]


async def test_a_refused_revision_is_read_again_after_a_rest_which_grows(
    source: GitSource, repository: Repository, clock: FakeClock
) -> None:
    await hung(source)
    revision = repository.commit({"web.yaml": vm("web", spec="vcpu: 2")})
    await refused(source)
    clock.advance(FIRST_REST - 1)
    await refused(source)
    clock.advance(2)
    fetched = await source.fetch()
    assert fetched.state is not None
    assert fetched.state.revision == revision


async def test_a_revision_that_needs_too_much_memory_is_refused(
    source: GitSource, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    source._reader._seconds = 60.0
    narrow(reader(source))
    many = "---\n".join(vm(f"v{number}", spec="vcpu: 2") for number in range(900))
    repository.commit({f"{n}.yaml": f"{many}# {n}\n" for n in range(20)})
    with monkeypatch.context() as patch:
        patch.setattr(source._reader, "_begin", narrowing(source))
        assert (await refused(source)).kind == "limit"
    repository.commit({"web.yaml": vm("web", spec="vcpu: 3")})
    assert (await source.fetch()).changed


def narrow(pid: int) -> None:
    """Leave a process little more than the memory that it has."""
    now = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
    resource.prlimit(pid, resource.RLIMIT_AS, (now + 8 * MIB, now + 8 * MIB))


def narrowing(source: GitSource) -> Callable[[], Awaitable[None]]:
    """Start a reader which has as little: one that died without a word is replaced, and has the same limit."""
    begin = source._reader._begin

    async def begun() -> None:
        await begin()
        narrow(reader(source))

    return begun


async def test_a_reader_that_was_killed_meanwhile_is_replaced_unnoticed(
    source: GitSource, repository: Repository
) -> None:
    pid = reader(source)
    os.kill(pid, signal.SIGKILL)
    repository.commit({"web.yaml": vm("web", spec="vcpu: 2")})
    assert (await source.fetch()).changed
    assert reader(source) != pid


async def test_a_reader_that_cannot_start_is_the_hosts_trouble_and_not_the_revisions(
    source: GitSource, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    await source.close()
    monkeypatch.setattr(source._reader, "_module", "reconciler.no_such_module")
    repository.commit({"web.yaml": vm("web", spec="vcpu: 2")})
    with pytest.raises(SourceError) as caught:
        await source.fetch()
    assert not isinstance(caught.value, RevisionRefused)
    assert "did not start (exit 1)" in str(caught.value)
    monkeypatch.undo()
    assert (await source.fetch()).changed


async def test_reader_and_fetcher_end_with_their_source(source: GitSource) -> None:
    pids = [reader(source), source.child_pid]
    await source.close()
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
