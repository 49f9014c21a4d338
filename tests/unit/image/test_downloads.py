"""Downloads from servers that are slow or wrong: whole and theirs, or nothing; and the next try goes on."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.image import downloads
from reconciler.image.downloads import Downloads
from tests.eventually import eventually
from tests.fakes import FakeClock
from tests.unit.image.downloading import CONTENT, FIRST, Place, always, hanging, saying, wanted
from tests.unit.image.stranger import Answer, Asked, Stranger, head, serving, whole


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def test_a_file_is_downloaded_and_nothing_else_is_left(place: Place) -> None:
    with serving(always(whole(CONTENT))) as stranger:
        await place.downloads(stranger).fetch(wanted(stranger, size=len(CONTENT)), place.target)
    assert place.target.read_bytes() == CONTENT
    assert not place.partial.exists()


async def test_a_download_goes_on_where_the_last_one_ended(place: Place) -> None:
    place.began(CONTENT[:FIRST])
    with serving(always(whole(CONTENT))) as stranger:
        await place.downloads(stranger).fetch(wanted(stranger), place.target)
    assert [asked.begin for asked in stranger.asked] == [FIRST]
    assert place.target.read_bytes() == CONTENT


async def test_a_connection_that_ends_early_costs_only_the_rest(place: Place) -> None:
    short = head("200 OK", Content_Length=len(CONTENT)) + CONTENT[:FIRST]
    with (
        serving(saying(short)) as stranger,
        pytest.raises(BuildUnavailable, match="ended in the middle of it") as failed,
    ):
        await place.downloads(stranger).fetch(wanted(stranger), place.target)
    assert failed.value.kind == "network"
    came = place.partial.stat().st_size
    assert 0 < came <= FIRST
    with serving(always(whole(CONTENT))) as stranger:
        await place.downloads(stranger).fetch(wanted(stranger), place.target)
    assert [asked.begin for asked in stranger.asked] == [came]
    assert place.target.read_bytes() == CONTENT


async def test_a_server_without_ranges_is_asked_once_and_sends_all_of_it(place: Place) -> None:
    place.began(b"of another time")
    with serving(saying(head("200 OK", Content_Length=len(CONTENT)), CONTENT)) as stranger:
        await place.downloads(stranger).fetch(wanted(stranger), place.target)
    assert len(stranger.asked) == 1
    assert place.target.read_bytes() == CONTENT


async def test_a_file_that_changed_at_the_server_is_downloaded_from_its_beginning(
    place: Place,
) -> None:
    place.began(bytes(FIRST))
    with serving(always(whole(CONTENT))) as stranger:
        await place.downloads(stranger).fetch(wanted(stranger), place.target)
    assert [asked.begin for asked in stranger.asked] == [FIRST, 0]
    assert place.target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "answer",
    [
        head("416 No", Content_Range=f"bytes */{FIRST - 1}", Content_Length=0),
        head("416 No", Content_Length=0),
        head("206 Part", Content_Range=f"bytes 0-9/{len(CONTENT)}", Content_Length=10) + bytes(10),
        head("206 Part", Content_Range="bytes x", Content_Length=10) + bytes(10),
        head("206 Part", Content_Length=10) + bytes(10),
    ],
)
async def test_an_answer_to_another_range_begins_the_file_again(
    place: Place, answer: bytes
) -> None:
    place.began(CONTENT[:FIRST])
    good = whole(CONTENT)
    with serving(always(lambda a: iter([answer]) if a.begin else good(a))) as stranger:
        await place.downloads(stranger).fetch(wanted(stranger), place.target)
    assert [asked.begin for asked in stranger.asked] == [FIRST, 0]
    assert place.target.read_bytes() == CONTENT


async def test_a_part_that_was_never_asked_for_is_an_error_and_no_loop(place: Place) -> None:
    part = head("206 Part", Content_Range="bytes 5-9/10", Content_Length=5) + b"12345"
    with (
        serving(saying(part)) as stranger,
        pytest.raises(BuildUnavailable, match="a part that was not asked for"),
    ):
        await place.downloads(stranger).fetch(wanted(stranger), place.target)
    assert len(stranger.asked) == 2
    assert not place.target.exists()


@pytest.mark.parametrize("size", [0, len(CONTENT)])
async def test_a_file_that_is_here_whole_costs_no_byte(place: Place, size: int) -> None:
    """The daemon ended between the last byte and the digest."""
    place.began(CONTENT)
    with serving(always(whole(CONTENT))) as stranger:
        await place.downloads(stranger).fetch(wanted(stranger, size=size), place.target)
    assert [asked.begin for asked in stranger.asked] == ([] if size else [len(CONTENT)])
    assert place.target.read_bytes() == CONTENT


async def test_a_file_of_another_sha256_is_never_believed_nor_kept(place: Place) -> None:
    with (
        serving(always(whole(CONTENT[:-1] + b"!"))) as stranger,
        pytest.raises(BuildFailed, match="another sha256 than the manifest says"),
    ):
        await place.downloads(stranger).fetch(wanted(stranger), place.target)
    assert len(stranger.asked) == 1
    assert place.is_empty()


@pytest.mark.parametrize("length", [len(CONTENT) - 5, len(CONTENT) + 5])
async def test_a_length_that_is_a_lie_gives_no_image(place: Place, length: int) -> None:
    with (
        serving(saying(head("200 OK", Content_Length=length), CONTENT)) as stranger,
        pytest.raises((BuildFailed, BuildUnavailable)),
    ):
        await place.downloads(stranger).fetch(wanted(stranger), place.target)
    assert not place.target.exists()


async def test_the_size_of_the_manifest_is_compared_before_anything_is_stored(
    place: Place,
) -> None:
    with (
        serving(hanging(head("200 OK", Content_Length=1 << 50))) as stranger,
        pytest.raises(BuildUnavailable, match="the manifest says 300000") as failed,
    ):
        await place.downloads(stranger).fetch(wanted(stranger, size=len(CONTENT)), place.target)
    assert failed.value.kind == "changed-file"
    assert place.partial.stat().st_size == 0


@pytest.mark.parametrize(
    ("fields", "piece"),
    [
        ({}, bytes(0x10000)),
        ({"Transfer_Encoding": "chunked"}, b"10000\r\n" + bytes(0x10000) + b"\r\n"),
    ],
)
async def test_an_endless_answer_ends_at_the_bound_and_is_dropped(
    place: Place, fields: dict[str, str], piece: bytes
) -> None:
    def endless(stranger: Stranger) -> Answer:
        def answer(_asked: Asked) -> Iterator[bytes]:
            yield head("200 OK", **fields)
            while not stranger.ended.is_set():
                yield piece

        return answer

    with (
        serving(endless) as stranger,
        pytest.raises(BuildUnavailable, match="more than 1000000 bytes") as failed,
    ):
        await place.downloads(stranger).fetch(wanted(stranger), place.target)
    assert failed.value.kind == "limit"
    assert place.is_empty()


@pytest.mark.parametrize(
    "pieces", [(), (b"HTTP/1.1 200 OK\r\nContent-Le",), (head("200 OK"), CONTENT[:FIRST])]
)
async def test_a_server_that_stalls_is_left_and_what_came_is_kept(
    place: Place, pieces: tuple[bytes, ...]
) -> None:
    place.began(b"")
    with (
        serving(hanging(*pieces)) as stranger,
        pytest.raises(BuildUnavailable, match=r"came within 0\.5 s") as failed,
    ):
        await place.downloads(stranger, stall=0.5).fetch(wanted(stranger), place.target)
    assert failed.value.kind == "timeout"
    assert not place.target.exists()
    assert place.partial.exists()


async def test_a_server_that_sends_a_byte_now_and_then_has_stalled_too(place: Place) -> None:
    def dripping(stranger: Stranger) -> Answer:
        def answer(_asked: Asked) -> Iterator[bytes]:
            yield head("200 OK", Content_Length=len(CONTENT))
            while not stranger.ended.wait(0.02):
                yield b"x"

        return answer

    with (
        serving(dripping) as stranger,
        pytest.raises(BuildUnavailable, match=r"too little, came within 0\.5 s"),
    ):
        await place.downloads(stranger, stall=0.5).fetch(wanted(stranger), place.target)


async def test_a_cancelled_download_ends_its_child_and_keeps_what_came(place: Place) -> None:
    begun = head("200 OK", Content_Length=len(CONTENT)), CONTENT[:FIRST]
    with serving(hanging(*begun)) as stranger:
        work = asyncio.create_task(place.downloads(stranger).fetch(wanted(stranger), place.target))
        await eventually(lambda: place.partial.exists() and place.partial.stat().st_size == FIRST)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
    assert place.partial.stat().st_size == FIRST
    assert not place.target.exists()


def test_partial_files_that_are_old_too_many_or_too_large_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    kept = Downloads(tmp_path, clock)
    wall = clock.now().wall
    for number in range(12):
        path = tmp_path / f"{number:02}.partial"
        path.write_bytes(bytes(10))
        os.utime(path, (wall - number, wall - number))
    (tmp_path / "other").write_text("not ours to remove")
    kept.sweep()
    names = sorted(path.name for path in tmp_path.glob("*.partial"))
    assert names == [f"{number:02}.partial" for number in range(downloads.MOST_PARTIALS)]
    monkeypatch.setattr(downloads, "MOST_PARTIAL_BYTES", 25)
    kept.sweep()
    assert len(list(tmp_path.glob("*.partial"))) == 2
    clock.advance(downloads.STALE_SECONDS + 20)
    kept.sweep()
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


async def test_two_who_want_the_same_file_at_once_both_get_it(place: Place) -> None:
    """A layer and a disk, of different VMs."""
    targets = [place.folder / "layer", place.folder / "disk"]
    with serving(slowly) as stranger:
        downloads = place.downloads(stranger)
        both = [downloads.fetch(wanted(stranger), target) for target in targets]
        await asyncio.gather(*both)
    assert [target.read_bytes() == CONTENT for target in targets] == [True, True]


def slowly(stranger: Stranger) -> Answer:
    """All of it, in two pieces: the second when another asks, too, or does not for a while."""
    both = threading.Event()

    def answer(asked: Asked) -> Iterator[bytes]:
        said = b"".join(whole(CONTENT)(asked))
        yield said[:FIRST]
        if len(stranger.asked) > 1:
            both.set()
        both.wait(2)
        yield said[FIRST:]

    return answer
