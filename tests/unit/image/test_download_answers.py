"""Whatever a server answers to a download is taken within bounds, or told with what to do."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from reconciler.errors import BuildUnavailable
from reconciler.image.download_worker import DownloadRequest, download
from tests.fuzz.mutations import inputs
from tests.unit.image.downloading import CONTENT, Place, always, saying, wanted
from tests.unit.image.stranger import head, serving, whole


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def test_a_redirect_to_an_allowed_url_is_followed(place: Place) -> None:
    good = whole(CONTENT)
    moved = head("302 Moved", Location="/elsewhere?x=1", Content_Length=5) + b"gone!"
    with serving(always(lambda a: iter([moved]) if a.path == "/image" else good(a))) as stranger:
        await place.downloads(stranger).fetch(wanted(stranger), place.target)
    assert [asked.path for asked in stranger.asked] == ["/image", "/elsewhere?x=1"]
    assert place.target.read_bytes() == CONTENT


async def test_a_redirect_to_another_server_is_refused_and_that_server_is_not_asked(
    place: Place,
) -> None:
    with serving(always(whole(CONTENT))) as other:
        away = head("307 Moved", Location=other.url(), Content_Length=0)
        with (
            serving(saying(away)) as stranger,
            pytest.raises(BuildUnavailable, match=f"redirected to {other.url()}") as failed,
        ):
            await place.downloads(stranger).fetch(wanted(stranger), place.target)
    assert failed.value.kind == "refused"
    assert "policy.image_urls" in failed.value.hint
    assert other.asked == []


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("/image", "redirected more than 5 times"),
        ("file:///etc/passwd", "redirected to file:///etc/passwd"),
        ("http://user:secret@127.0.0.1/", r"redirected to http://\*\*\*@127.0.0.1/"),
        ("http://[", "status 302 without a place that can be read"),
        ("", "status 302 without a place that can be read"),
    ],
)
async def test_a_redirect_that_leads_nowhere_is_an_error_with_its_place(
    place: Place, location: str, words: str
) -> None:
    with (
        serving(saying(head("302 Moved", Location=location, Content_Length=0))) as stranger,
        pytest.raises(BuildUnavailable, match=words) as failed,
    ):
        await place.downloads(stranger).fetch(wanted(stranger), place.target)
    assert len(stranger.asked) <= 6
    assert "secret" not in str(failed.value)


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        ("404 Gone", "put the file there"),
        ("401 No", "no credentials"),
        ("503 Later", "tried again"),
    ],
)
async def test_a_status_that_is_no_file_is_told_with_what_to_do(
    place: Place, status: str, hint: str
) -> None:
    page = b"<html>sorry</html>"
    with (
        serving(saying(head(status, Content_Length=len(page)), page)) as stranger,
        pytest.raises(BuildUnavailable, match=f"status {status[:3]}") as failed,
    ):
        await place.downloads(stranger).fetch(wanted(stranger), place.target)
    assert hint in failed.value.hint
    assert not place.target.exists()


async def test_what_is_compressed_on_the_way_is_taken_as_it_comes(place: Place) -> None:
    """A bomb stays as small as it is."""
    with serving(
        saying(head("200 OK", Content_Length=len(CONTENT), Content_Encoding="gzip"), CONTENT)
    ) as stranger:
        await place.downloads(stranger).fetch(wanted(stranger), place.target)
    assert place.target.read_bytes() == CONTENT


async def test_a_file_for_which_there_is_no_space_is_refused_before_it_comes(place: Place) -> None:
    with serving(always(whole(CONTENT))) as stranger:
        full = place.downloads(stranger, reserve=1 << 60)
        with pytest.raises(BuildUnavailable, match="0 MiB are free") as failed:
            await full.fetch(wanted(stranger), place.target)
    assert failed.value.kind == "disk-full"
    assert place.is_empty()


async def test_a_server_that_is_not_there_is_told(place: Place) -> None:
    with serving(always(whole(CONTENT))) as stranger:
        pass
    with pytest.raises(BuildUnavailable, match="Cannot connect") as failed:
        await place.downloads(stranger).fetch(wanted(stranger), place.target)
    assert failed.value.kind == "network"


SEEDS = (
    head("200 OK", Content_Length=20) + bytes(20),
    head("206 Part", Content_Range="bytes 0-19/20", Content_Length=20) + bytes(20),
    head("200 OK", Transfer_Encoding="chunked") + b"5\r\n12345\r\n0\r\n\r\n",
    head("302 Moved", Location="/other", Content_Length=0),
    head("416 No", Content_Range="bytes */20", Content_Length=0),
)
WORDS = (
    "Content-Length: -1\r\n", "Content-Length: 99999999999999999999\r\n", "Transfer-Encoding: gzip\r\n",
    "Content-Range: bytes 0-0/*\r\n", "Location: //\r\n", "HTTP/0.9 ", "\r\n\r\n", "\0", "x" * 9000,
)  # fmt: skip


def test_whatever_a_server_says_is_an_answer_within_the_bounds(tmp_path: Path) -> None:
    drawn = inputs(random.Random(3), SEEDS, WORDS, 300)  # noqa: S311  # the same in each run
    with serving(lambda _stranger: lambda _asked: iter([next(drawn, b"")])) as stranger:
        for number in range(150):
            partial = tmp_path / f"{number}"
            partial.write_bytes(bytes(number % 3))
            request = DownloadRequest(
                stranger.url(), str(partial), 1000, 0, (stranger.pattern,), 0, 5.0, 10.0
            )
            answer = download(request)
            assert answer.kind in ("", "network", "limit", "timeout", "refused"), answer
            assert partial.stat().st_size <= 1000
