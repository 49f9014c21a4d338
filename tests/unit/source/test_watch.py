"""A local repository that cannot be watched costs nothing but the hint."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.source.git import polling
from reconciler.source.git.polling import FIRST_PAUSE, LocalWatch
from tests.eventually import eventually
from tests.unit.source.repositories import Repository, vm

pytestmark = pytest.mark.shows(fault=102)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository.git")


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def watches(watched: LocalWatch) -> bool:
    return watched.watching


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    """As when the user has no watch left: the next descriptor is refused."""
    former = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    plugs = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, former[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                plugs.append(os.open("/dev/null", os.O_RDONLY))
        yield
    finally:
        for plug in plugs:
            os.close(plug)
        resource.setrlimit(resource.RLIMIT_NOFILE, former)


async def test_what_cannot_be_watched_leaves_nothing_open_and_is_tried_again_after_a_pause(
    repository: Repository,
) -> None:
    now, before = [1000.0], descriptors()
    with no_descriptor_left():
        watched = LocalWatch(repository.path, lambda: None, lambda: now[0])
        for _ in range(5):
            watched.refresh()
    assert not watches(watched)
    assert descriptors() == before
    now[0] += FIRST_PAUSE - 1
    watched.refresh()
    assert not watches(watched), "not before its time"
    now[0] += 2
    watched.refresh()
    assert watches(watched)
    watched.close()
    await eventually(lambda: descriptors() == before)


async def test_pauses_grow_while_it_fails(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "MOST_FOLDERS", 1)
    now = [0.0]
    watched = LocalWatch(repository.path, lambda: None, lambda: now[0])
    pauses = []
    for _ in range(4):
        pauses.append(watched._not_before - now[0])
        now[0] = watched._not_before
        watched.refresh()
    assert pauses == [5.0, 10.0, 20.0, 40.0]
    assert not watches(watched)


async def test_a_watch_whose_thread_ended_is_made_again(repository: Repository) -> None:
    now, called = [0.0], asyncio.Event()
    watched = LocalWatch(repository.path, called.set, lambda: now[0])
    assert watched._observer is not None
    for emitter in watched._observer.emitters:
        emitter.stop()
        emitter.join()
    watched.refresh()
    assert not watches(watched)
    now[0] += FIRST_PAUSE
    watched.refresh()
    repository.commit({"a.yaml": vm("a")})
    async with asyncio.timeout(20):
        await called.wait()
    watched.close()
