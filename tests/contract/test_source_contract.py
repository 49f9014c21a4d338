"""What every source does with what is pushed to it, whatever it is made of."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from reconciler.clock import SystemClock
from reconciler.config import parse_config
from reconciler.engine.interfaces import Source
from reconciler.errors import BuildUnavailable, RevisionRefused
from reconciler.model.desired import Lineage
from reconciler.model.names import Revision
from reconciler.source.registry import open_source
from tests.contract.stubs import MemoryConfig, make_memory_source
from tests.fakes.source import FakeSource
from tests.unit.source.repositories import Repository, source_of, vm as manifest
from tests.world import state, vm

pytestmark = [pytest.mark.shows(row=25), pytest.mark.shows(row=26)]


class People(Protocol):
    """Who may push."""

    def push(self, name: str) -> Revision:
        """A commit after the newest, with one VM of that name."""
        ...

    def force(self, name: str) -> Revision:
        """A commit that has none before it, in the place of all."""
        ...

    def set_back(self, revision: Revision) -> None:
        """The branch at a commit of before."""
        ...

    def content(self) -> str:
        """The id of a content that the source keeps."""
        ...

    def lost(self) -> str:
        """The id of a content that the source does not have now."""
        ...


class FakePeople:
    def __init__(self, source: FakeSource) -> None:
        self._source = source

    def push(self, name: str) -> Revision:
        desired = state(vm(name))
        self._source.push(desired)
        return desired.revision

    def force(self, name: str) -> Revision:
        desired = state(vm(name))
        self._source.rewrite(desired)
        return desired.revision

    def set_back(self, revision: Revision) -> None:
        self._source.rewrite(self._source.states[revision])

    def content(self) -> str:
        return "a" * 40

    def lost(self) -> str:
        self._source.lost.add("b" * 40)
        return "b" * 40


class GitPeople:
    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def push(self, name: str) -> Revision:
        return Revision(self._repository.commit({"vm.yaml": manifest(name)}))

    def force(self, name: str) -> Revision:
        self._repository.git.references["refs/heads/main"].delete()
        return self.push(name)

    def set_back(self, revision: Revision) -> None:
        self._repository.git.references["refs/heads/main"].set_target(revision)

    def content(self) -> str:
        commit = self._repository.git[self._repository.commit({"web/file": "1", "web/b/c": "2"})]
        return str((commit.tree / "web").id)

    def lost(self) -> str:
        return "b" * 40


@pytest.fixture(params=["fake", "git", "registered"])
async def told(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[Source, People]]:
    if request.param == "fake":
        fake = FakeSource()
        yield fake, FakePeople(fake)
        return
    if request.param == "registered":
        kinds: Any = {MemoryConfig: make_memory_source}
        raw: dict[str, object] = {"source": {"url": "unused"}, "state_dir": str(tmp_path)}
        config = parse_config(raw, "test").model_copy(update={"source": MemoryConfig()})
        opened: Any = await open_source(config, SystemClock(), kinds=kinds)
        assert opened.is_open
        yield opened, FakePeople(opened)
        await opened.close()
        return
    repository = Repository(tmp_path / "repository.git")
    source = source_of(repository.path, tmp_path / "state")
    yield source, GitPeople(repository)
    await source.close()


Told = tuple[Source, People]


async def names(source: Source, lineage: Lineage) -> list[str]:
    found = await source.fetch(lineage)
    assert found.state is not None
    return list(found.state.vms)


async def refused(source: Source, lineage: Lineage) -> str:
    with pytest.raises(RevisionRefused) as caught:
        await source.fetch(lineage)
    assert caught.value.kind == "ancestry"
    assert caught.value.hint
    return caught.value.revision


async def test_the_first_revision_continues_nothing_and_is_taken(told: Told) -> None:
    source, people = told
    people.push("a")
    assert await names(source, Lineage()) == ["a"]


async def test_commits_on_top_of_what_is_followed_are_taken_however_many(told: Told) -> None:
    source, people = told
    first = people.push("a")
    await source.fetch(Lineage())
    people.push("b")
    people.push("c")
    assert await names(source, Lineage((first,))) == ["c"]


async def test_a_branch_that_was_rewritten_is_refused_each_time_it_is_looked_at(told: Told) -> None:
    source, people = told
    lineage = Lineage((people.push("a"),))
    await source.fetch(Lineage())
    forced = people.force("b")
    assert await refused(source, lineage) == forced
    assert await refused(source, lineage) == forced
    assert source.status().failures == 0, "it was read; only what it says is refused"


async def test_a_branch_that_was_set_back_is_refused(told: Told) -> None:
    source, people = told
    first = people.push("a")
    lineage = Lineage((people.push("b"),))
    await source.fetch(Lineage())
    people.set_back(first)
    assert await refused(source, lineage) == first


async def test_a_branch_that_is_put_back_is_as_it_was(told: Told) -> None:
    source, people = told
    lineage = Lineage((people.push("a"),))
    await source.fetch(Lineage())
    people.force("b")
    await refused(source, lineage)
    people.set_back(lineage.revisions[0])
    found = await source.fetch(lineage)
    assert (found.state, found.revision) == (None, lineage.revisions[0])


async def test_a_rewrite_that_a_person_allowed_is_taken_and_so_is_what_continues_it(
    told: Told,
) -> None:
    source, people = told
    first = people.push("a")
    await source.fetch(Lineage())
    forced = people.force("b")
    await refused(source, Lineage((first,)))
    assert await names(source, Lineage((first,), forced)) == ["b"]
    people.push("c")
    assert await names(source, Lineage((first,), forced)) == ["c"]
    people.force("d")
    await refused(source, Lineage((first,), forced))


async def test_what_runs_at_several_revisions_must_all_be_continued(told: Told) -> None:
    source, people = told
    first, second = people.push("a"), people.push("b")
    await source.fetch(Lineage())
    people.set_back(first)
    await refused(source, Lineage((first, second)))
    people.set_back(second)
    people.push("c")
    assert await names(source, Lineage((first, second))) == ["c"]


def written(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file with its mode and bytes."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mode, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


async def test_a_content_is_the_same_files_each_time_it_is_exported(
    told: Told, tmp_path: Path
) -> None:
    source, people = told
    people.push("a")
    content = people.content()
    await source.fetch(Lineage())
    sizes = [await source.export(content, tmp_path / name) for name in ("one", "two")]
    one, two = written(tmp_path / "one"), written(tmp_path / "two")
    assert one == two != {}
    assert sizes == [sum(len(raw) for _, raw in one.values())] * 2


async def test_a_content_that_is_not_there_may_be_there_the_next_time(
    told: Told, tmp_path: Path
) -> None:
    source, people = told
    people.push("a")
    await source.fetch(Lineage())
    with pytest.raises(BuildUnavailable):
        await source.export(people.lost(), tmp_path / "lost")
