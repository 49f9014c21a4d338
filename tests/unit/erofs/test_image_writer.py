"""Images of erofs: what erofs-utils reads from them is what was written, and the same entries are the same bytes."""

from __future__ import annotations

import os
import random
import resource
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from reconciler.erofs.image_writer import MOST_INLINE, SEGMENT, ImageWriter, create
from reconciler.erofs.lz4 import Lz4
from reconciler.erofs.piped_writer import PipedWriter
from reconciler.erofs.structures import BLOCK

UUID = bytes(range(16))
Tree = dict[str, "bytes | str | Tree"]
"""Files, targets of links, folders."""
NOISE = random.Random(7).randbytes(3 * SEGMENT)  # noqa: S311 - the same in every run
TEXT = b"".join(b"line %d of some text\n" % number for number in range(200_000))
EDGES = (0, 1, MOST_INLINE - 1, MOST_INLINE, MOST_INLINE + 1, BLOCK - 1, BLOCK, BLOCK + 1,
         2 * BLOCK - 1, 2 * BLOCK, 9121, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT + BLOCK + 1)  # fmt: skip


def give(writer: ImageWriter | PipedWriter, tree: Tree) -> None:
    for name, value in tree.items():
        if isinstance(value, dict):
            writer.enter(name.encode())
            give(writer, value)
            writer.leave()
        elif isinstance(value, str):
            writer.link(name.encode(), value.encode())
        else:
            writer.file(name.encode(), value, program=name.endswith("-run"))


def written(path: Path, tree: Tree, *, lz4: bool = False, piped: bool = False) -> bytes:
    def begin() -> ImageWriter:
        return create(path, UUID, Lz4() if lz4 else None)

    writer = PipedWriter(begin) if piped else begin()
    give(writer, tree)
    writer.finish()
    return path.read_bytes()


def extracted(image: Path, into: Path) -> Tree:
    """What fsck.erofs finds, having read and unpacked all of it."""
    argv = ("fsck.erofs", f"--extract={into}", "--preserve-perms", image)
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stdout + done.stderr
    return read(into)


def read(folder: Path) -> Tree:
    found: Tree = {}
    for path in sorted(folder.iterdir()):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            found[path.name] = os.readlink(path)  # noqa: PTH115 - as it is
        elif stat.S_ISDIR(mode):
            found[path.name] = read(path)
            assert stat.S_IMODE(mode) == 0o755
        else:
            found[path.name] = path.read_bytes()
            assert stat.S_IMODE(mode) == (0o755 if path.name.endswith("-run") else 0o644)
    return found


def in_order(tree: Tree) -> Tree:
    return {
        name: in_order(value) if isinstance(value, dict) else value
        for name, value in sorted(tree.items())
    }


@pytest.mark.parametrize("lz4", [False, True])
def test_what_erofs_utils_read_is_what_was_written(tmp_path: Path, *, lz4: bool) -> None:
    tree: Tree = {
        "etc": {"app.conf": b"answer = 42\n", "empty": b"", "deep": {"er": {"x-run": b"#!/bin/sh\n"}}},
        "links": {"to": "/etc/app.conf", "long": "t" * 4000, "edge": "e" * (BLOCK - 1)},
        "none": {},
        "noise": {str(size): NOISE[:size] for size in EDGES},
        "text": {f"{size}-run": TEXT[:size] for size in EDGES},
        "zeros": {str(size): bytes(size) for size in EDGES},
        "mixed": {
            "text-first": TEXT[:SEGMENT] + NOISE[:SEGMENT] + bytes(SEGMENT),
            "noise-first": NOISE[: SEGMENT + 5] + TEXT,
        },
        "many": {f"a file of many with a long name {number}": b"%d" % number for number in range(900)},
        "folders": {str(number): {} for number in range(300)},
        "Größe": b"x",
        "n" * 255: b"y",
    }  # fmt: skip
    image = written(tmp_path / "image", tree, lz4=lz4)
    assert extracted(tmp_path / "image", tmp_path / "out") == in_order(tree)
    assert len(image) % BLOCK == 0


sizes = st.integers(0, 3 * SEGMENT) | st.sampled_from(EDGES)
parts = st.lists(st.tuples(st.sampled_from((TEXT, NOISE, bytes(SEGMENT))), sizes), max_size=6)


@given(parts)
def test_any_mix_of_content_comes_back(tmp_path_factory: pytest.TempPathFactory, mix: list[tuple[bytes, int]]) -> None:  # fmt: skip
    tmp_path = tmp_path_factory.mktemp("mix")
    content = b"".join(source[:size] for source, size in mix)
    written(tmp_path / "image", {"file": content}, lz4=True)
    assert extracted(tmp_path / "image", tmp_path / "out") == {"file": content}


def test_compression_gains_where_mkfs_erofs_gains(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "text").write_bytes(TEXT)
    (folder / "noise").write_bytes(NOISE)
    ours = written(tmp_path / "ours", {"text": TEXT, "noise": NOISE}, lz4=True)
    argv = ("mkfs.erofs", "--quiet", "-zlz4", "-T0", "--all-root", tmp_path / "theirs", folder)
    subprocess.run(argv, check=True, capture_output=True, timeout=50)
    assert len(ours) < 1.1 * (tmp_path / "theirs").stat().st_size


def test_a_process_of_its_own_writes_the_same_bytes(tmp_path: Path) -> None:
    tree: Tree = {"a": {"noise": NOISE, "text": TEXT}, "b": "a/text", "c-run": b"c"}
    one = written(tmp_path / "one", tree, lz4=True)
    assert written(tmp_path / "other", tree, lz4=True, piped=True) == one


def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    writer = create(tmp_path / "image", UUID, None)
    writer.link(b"a", b"b")
    with pytest.raises(FileExistsError):
        writer.enter(b"a")


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        written(tmp_path / "image", {})
    with pytest.raises(FileExistsError):
        written(tmp_path / "image", {"a": NOISE}, piped=True)
    assert (tmp_path / "image").read_bytes() == b"precious"


@pytest.fixture
def _small_files() -> Iterator[None]:
    """Until the test ends no file may grow beyond a MiB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SEGMENT, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("_small_files")
@pytest.mark.parametrize("piped", [False, True])
def test_what_the_disk_does_not_take_is_an_error(tmp_path: Path, *, piped: bool) -> None:
    with pytest.raises(OSError, match="File too large"):
        written(tmp_path / "image", {str(n): NOISE for n in range(4)}, piped=piped)


@pytest.mark.usefixtures("_small_files")
@pytest.mark.parametrize("piped", [False, True])
def test_what_the_disk_does_not_take_at_the_end_is_the_same_error(
    tmp_path: Path, *, piped: bool
) -> None:
    with pytest.raises(OSError, match="File too large"):
        written(tmp_path / "image", {"all-in-the-pipe": NOISE[:SEGMENT]}, piped=piped)
