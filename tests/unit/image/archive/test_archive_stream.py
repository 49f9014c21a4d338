"""What a stream may be before it is a tar at all: cut off, damaged, endless, sparse."""

from __future__ import annotations

import gzip
import os
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

from reconciler.image.archive.headers import MOST_HEADER_BYTES
from reconciler.image.archive.packing import check
from reconciler.image.archive.stream import CHUNK, MOST_AHEAD, ArchiveStream, BadArchiveError
from tests.unit.image.archive.archives import Item, file, item, tar_of, unpacked
from tests.unit.image.archive.conftest import Pack

TAR = tar_of(*(file(f"f{number}", b"%d" % number * 999) for number in range(50)))


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    return tmp_path / "layer.tar"


def zstd(content: bytes) -> bytes:
    return subprocess.run(("zstd", "-c"), input=content, capture_output=True, check=True).stdout


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "has no mark of its end"),
        (b"<html>", "the archive is no tar"),
        (b"x" * 4096, "the archive is no tar"),
        (TAR[:1000], "is cut off within its last entry"),
        (TAR[:1100], "is cut off|no header"),
        (TAR[:1536], "has no mark of its end"),
        (TAR[: TAR.index(bytes(4096))], "cut off|has no mark of its end"),
        (TAR[:1536] + b"y" * 512 + TAR[1536:], "no header at byte 1536 of the archive"),
        (gzip.compress(TAR)[:-20], "is cut off: its gzip does not end|not whole gzip"),
        (gzip.compress(TAR)[:-8] + bytes(8), "is not whole gzip"),
        (gzip.compress(TAR) + b"more", "is not whole gzip"),
        (gzip.compress(TAR) + gzip.compress(b"x" * 9)[:12], "is cut off: its gzip does not end"),
        (zstd(TAR)[:-9], "is not whole zstd"),
        (zstd(TAR) + b"more", "is not whole zstd"),
        (b"BZh91AY&SY" + bytes(600), "the archive is no tar"),
    ],
)
def test_what_is_no_whole_archive_is_refused(tar: Path, raw: bytes, reason: str) -> None:
    tar.write_bytes(raw)
    before = threading.active_count()
    with pytest.raises(BadArchiveError, match=reason):
        check(tar, None)
    assert threading.active_count() == before


def test_every_way_to_cut_a_tar_off_is_noticed(tar: Path) -> None:
    small = tar_of(file("a" * 120, "content", xattrs={"user.x": "1"}), file("b", "x"))
    end = small.rindex(b"x") + 512  # of the last entry's block
    for size in range(0, end // 512 * 512 + 511, 37):
        tar.write_bytes(small[:size])
        with pytest.raises(BadArchiveError):
            check(tar, None)


def test_an_archive_without_a_mark_of_its_end_is_whole_by_its_digest(tar: Path) -> None:
    whole = tar_of(file("a", "1"))
    tar.write_bytes(whole)
    _, digest = check(tar, None)
    tar.write_bytes(whole[:1024])
    _, shorter = check(tar, "sha256:" + _sha256(whole[:1024]))
    assert shorter != digest


def _sha256(content: bytes) -> str:
    return subprocess.run(("sha256sum",), input=content, capture_output=True, check=True).stdout[:64].decode()  # fmt: skip


@pytest.mark.parametrize("pack_by", [bytes, gzip.compress, zstd], ids=["plain", "gzip", "zstd"])
def test_a_bomb_ends_where_it_grows_too_large(tar: Path, pack_by: type[bytes]) -> None:
    tar.write_bytes(pack_by(tar_of() + bytes(40 << 20)))
    before = threading.active_count()
    with (
        ArchiveStream(tar, 8 << 20) as stream,
        pytest.raises(BadArchiveError, match="unpacks to more than 8 MiB"),
    ):
        stream.finish()
    assert threading.active_count() == before


def test_few_chunks_are_held_at_a_time(tar: Path) -> None:
    tar.write_bytes(gzip.compress(bytes(64 << 20)))
    with ArchiveStream(tar) as stream:
        stream.read(1)
        held = list(stream._ahead.queue)
        assert len(held) <= MOST_AHEAD
        assert all(isinstance(chunk, bytes) and len(chunk) <= CHUNK for chunk in held)


@pytest.mark.parametrize("form", ["gnu", "0.0", "0.1", "1.0"])
async def test_a_sparse_file_is_packed_with_its_holes(
    pack: Pack, tmp_path: Path, form: str
) -> None:
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as out:
        for number in range(9):
            out.seek(number * 1_000_000)
            out.write(b"%d" % number)
        out.truncate(9_000_000)
    how = ("--format=gnu",) if form == "gnu" else ("--format=pax", f"--sparse-version={form}")
    made = subprocess.run(  # noqa: ASYNC221  # some milliseconds
        ("tar", "-C", tmp_path, "-S", *how, "-c", "sparse"), capture_output=True, check=True
    ).stdout
    assert len(made) < 100_000
    site = await pack(made)
    assert (unpacked(site.image, tmp_path / "out") / "sparse").read_bytes() == sparse.read_bytes()


def sparse_of(size: int, parts: str) -> Item:
    made, content = item("bomb", content=b"x")
    made.pax_headers = {"GNU.sparse.size": str(size), "GNU.sparse.map": parts}
    return made, content


@pytest.mark.parametrize(
    ("size", "parts", "reason"),
    [
        (10 << 40, "0,1", "bomb: the files have more than 16384 MiB"),
        (5, "4,2", "whose parts do not fit"),
        (9, "0,1,0,1", "whose parts overlap"),
        (9, "0,900", "whose parts do not fit"),
        (9, "-1,1", "whose parts overlap"),
        (9, "0,1,x", "no header at byte|the archive is no tar"),
    ],
)
def test_a_sparse_file_that_says_nonsense_is_refused(
    tar: Path, size: int, parts: str, reason: str
) -> None:
    tar.write_bytes(tar_of(sparse_of(size, parts)))
    with pytest.raises(BadArchiveError, match=reason):
        check(tar, None)


def pax(records: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    """A pax header with these bytes, and a file after it."""
    info = tarfile.TarInfo("pax")
    info.type, info.size = kind, len(records)
    return (
        info.tobuf(tarfile.USTAR_FORMAT) + records + bytes(-len(records) % 512) + tar_of(file("a"))
    )


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (pax(b"2 " * 200_000 + b"="), "malformed pax records"),
        (pax(b"1" * 500_000), "malformed pax records"),
        (pax(b"10 path=ab\n"), "malformed pax records"),
        (pax(b"99 path=a\n"), "malformed pax records"),
        (pax(b"9 path a\n"), "malformed pax records"),
        (pax(b"10 uid=ab\n"), "malformed pax records"),
        (pax(b"11 size=-5\n"), "malformed pax records"),
        (pax(b"13 mtime=nan\n"), "malformed pax records"),
        (pax(b"10 path=b\n", tarfile.XGLTYPE), "a global header at byte 0"),
        (pax(bytes(MOST_HEADER_BYTES + 512)), "has more than 1 MiB"),
        (pax(b"12 path=a\0b\n"), "not a name that Linux could hold"),
    ],
)
def test_pax_records_are_looked_at_before_they_are_read(tar: Path, raw: bytes, reason: str) -> None:
    tar.write_bytes(raw)
    with pytest.raises(BadArchiveError, match=reason):
        check(tar, None)


def test_the_comment_that_git_writes_for_all_entries_is_harmless(tar: Path) -> None:
    tar.write_bytes(pax(b"52 comment=" + b"a" * 40 + b"\n", tarfile.XGLTYPE))
    assert list(check(tar, None)[0].paths) == [b"a"]


def test_headers_without_end_are_refused(tar: Path) -> None:
    long = tarfile.TarInfo("././@LongLink")
    long.type, long.size = tarfile.GNUTYPE_LONGNAME, 2
    tar.write_bytes((long.tobuf(tarfile.GNU_FORMAT) + b"a".ljust(512, b"\0")) * 3000)
    with pytest.raises(BadArchiveError, match=r"the archive is no tar|has more than 1 MiB"):
        check(tar, None)


def test_a_negative_size_leads_nowhere(tar: Path) -> None:
    raw = bytearray(tar_of(file("a", "1"), file("b")))
    raw[124:136] = b"\xff" * 11 + b"\x00"
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw[:512])
    tar.write_bytes(raw)
    with pytest.raises(BadArchiveError, match=r"a: its size is negative|the archive is no tar"):
        check(tar, None)


@pytest.mark.timeout(20)
def test_a_pipe_that_another_user_put_in_its_place_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "layer.tar"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="not a plain file"):
        ArchiveStream(pipe)
