"""The tar of what changed in a folder: what is in it, what is not, and that it repeats."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from reconciler.image.debian_roots.tree_difference import EPOCH, Marks, look, write_difference


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder as a base leaves it."""
    root = tmp_path / "root"
    for name in ("etc", "usr/bin", "var/lib/app", "dev", "old/inner"):
        (root / name).mkdir(parents=True)
    (root / "etc/name").write_text("base\n")
    (root / "usr/bin/tool").write_text("#!/bin/sh\n")
    (root / "usr/bin/tool").chmod(0o4755)
    (root / "old/inner/file").write_text("gone soon\n")
    (root / "bin").symlink_to("usr/bin")
    return root


def difference(root: Path, before: Marks | None = None) -> dict[str, tarfile.TarInfo]:
    out = io.BytesIO()
    write_difference(root, before or {}, out)
    out.seek(0)
    with tarfile.open(fileobj=out) as tar:
        return {entry.name: entry for entry in tar}


def test_a_whole_folder_is_its_difference_to_nothing(root: Path) -> None:
    found = difference(root)
    assert {".", "etc/name", "usr/bin/tool", "bin", "dev", "old/inner/file"} <= found.keys()
    assert found["usr/bin/tool"].mode == 0o4755
    assert found["bin"].linkname == "usr/bin"
    assert {entry.mtime for entry in found.values()} == {EPOCH}


def test_what_nobody_touched_is_left_out(root: Path) -> None:
    before = look(root)
    (root / "var/lib/app/new").write_text("1")
    found = difference(root, before)
    assert found.keys() == {".", "var", "var/lib", "var/lib/app", "var/lib/app/new"}


def test_a_file_that_was_written_again_with_its_old_times_is_in_it(root: Path) -> None:
    before = look(root)
    file = root / "etc/name"
    times = file.stat()
    file.write_text("BASE\n")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert "etc/name" in difference(root, before)


def test_a_folder_with_another_mode_is_in_it_without_what_it_holds(root: Path) -> None:
    before = look(root)
    (root / "var/lib/app").chmod(0o700)
    found = difference(root, before)
    assert found["var/lib/app"].mode == 0o700
    assert "etc" not in found


def test_of_what_is_gone_the_topmost_has_a_whiteout(root: Path) -> None:
    before = look(root)
    (root / "old/inner/file").unlink()
    (root / "old/inner").rmdir()
    (root / "etc/name").unlink()
    found = difference(root, before)
    assert found.keys() == {".", "etc", "etc/.wh.name", "old", "old/.wh.inner"}
    assert found["etc/.wh.name"].size == 0


def test_a_file_in_place_of_a_folder_needs_no_whiteouts(root: Path) -> None:
    before = look(root)
    (root / "old/inner/file").unlink()
    (root / "old/inner").rmdir()
    (root / "old/inner").write_text("a file now")
    assert difference(root, before).keys() == {".", "old", "old/inner"}


def test_names_of_one_file_stay_one_file(root: Path) -> None:
    before = look(root)
    (root / "usr/bin/other").hardlink_to(root / "usr/bin/tool")
    found = difference(root, before)
    assert found["usr/bin/tool"].islnk()
    assert found["usr/bin/tool"].linkname == "usr/bin/other"
    assert found["usr/bin/other"].isreg()


def test_what_is_mounted_there_is_an_empty_folder(root: Path) -> None:
    (root / "dev/null").write_text("a mount")
    (root / "tmp").mkdir()
    (root / "tmp/left").write_text("behind")
    found = difference(root)
    assert {"dev", "tmp"} <= found.keys()
    assert not {"dev/null", "tmp/left"} & found.keys()


def test_the_same_changes_give_the_same_bytes_in_any_order_at_any_time(tmp_path: Path) -> None:
    made = []
    for number, order in enumerate((("a", "b", "c"), ("c", "a", "b"))):
        root = tmp_path / str(number)
        (root / "etc").mkdir(parents=True)
        for name in order:
            (root / "etc" / name).write_text(name)
            os.utime(root / "etc" / name, (number, number))
        out = io.BytesIO()
        write_difference(root, {}, out)
        made.append(out.getvalue())
    assert made[0] == made[1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files such a capability")
def test_a_capability_of_a_file_is_kept(root: Path) -> None:
    value = bytes.fromhex("0100000200200000000000000000000000000000")
    os.setxattr(root / "usr/bin/tool", "security.capability", value)
    entry = difference(root)["usr/bin/tool"]
    kept = entry.pax_headers["SCHILY.xattr.security.capability"]
    assert kept.encode("utf-8", "surrogateescape") == value
