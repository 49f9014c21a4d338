"""Blobs that several builds need: fetched by one, linked to all, and fetched by another if the first fails."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from reconciler.image.oci.shared_blobs import SharedBlobs, name_of

A, B = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    return tmp_path / "one", tmp_path / "two"


def content(folder: Path, digest: str) -> str:
    return (folder / name_of(digest)).read_text()


async def test_who_comes_later_waits_and_gets_a_link(folders: tuple[Path, Path]) -> None:
    one, two = folders
    shared = SharedBlobs()
    with shared.claim([A], one) as (mine, coming):
        assert (mine, coming) == ([A], {})
        with shared.claim([A, B], two) as (others, awaited):
            assert (others, list(awaited)) == ([B], [A])
            (two / name_of(A)).touch()  # what keeps skopeo from fetching it
            (two / name_of(B)).write_text("b")
        (one / name_of(A)).write_text("a")
    assert await awaited[A]
    assert content(two, A) == "a"
    with shared.claim([A, B], one) as (mine, coming):
        assert (mine, coming) == ([], {})
    assert content(one, B) == "b"


async def test_what_one_fails_to_fetch_is_for_another(folders: tuple[Path, Path]) -> None:
    one, two = folders
    shared = SharedBlobs()
    with shared.claim([A], one):
        with shared.claim([A], two) as (mine, coming):
            assert mine == []
        (one / name_of(A)).touch()  # as a fetch that failed may leave it
    assert await coming[A] is False
    with shared.claim([A], two) as (mine, coming):
        assert mine == [A]


async def test_a_blob_whose_build_is_over_is_fetched_again(folders: tuple[Path, Path]) -> None:
    one, two = folders
    shared = SharedBlobs()
    with shared.claim([A], one):
        (one / name_of(A)).write_text("a")
    (one / name_of(A)).unlink()
    with shared.claim([A], two) as (mine, _):
        assert mine == [A]


async def test_a_build_that_was_cancelled_is_not_waited_for(folders: tuple[Path, Path]) -> None:
    one, two = folders
    shared = SharedBlobs()

    async def wait() -> None:
        with shared.claim([A], two) as (_, coming):
            pass
        await coming[A]

    with shared.claim([A], one):
        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        (one / name_of(A)).write_text("a")
    assert not (two / name_of(A)).exists()
