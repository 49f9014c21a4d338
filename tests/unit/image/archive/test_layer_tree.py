"""What a layer's tar means, and what can never be a layer: each with the entry at fault.

The cases are those that unpackers of layers have met: links that lead out, marks that hide too much or too little,
names that come twice.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from reconciler.image.archive.headers import Headers
from reconciler.image.archive.layer_tree import IMPLIED, OPAQUE, ArchiveLimits, LayerTree, tree_of
from reconciler.image.archive.packing import check
from reconciler.image.archive.stream import ArchiveStream, BadArchiveError
from reconciler.image.archive.tar_writer import write_tree
from tests.unit.image.archive.archives import (
    Item,
    device,
    file,
    folder,
    item,
    link,
    symlink,
    tar_of,
)


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    return tmp_path / "layer.tar"


def read(tar: Path, *items: Item) -> LayerTree:
    tar.write_bytes(tar_of(*items))
    return check(tar, None)[0]


def kinds(tree: LayerTree) -> dict[bytes, str]:
    return {path: entry.kind for path, entry in tree.paths.items()}


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        ([file("../x")], r"\.\./x: a path with `\.\.`"),
        ([file("a/../../x")], "a path with"),
        ([file("/a/../../../etc/cron.d/x")], "a path with"),
        ([folder("..")], "a path with"),
        ([link("a", "../../etc/shadow")], r"a: a path with `\.\.`: \.\./\.\./etc/shadow"),
        ([link("a", "/etc/shadow")], "a: a hard link to etc/shadow, which no earlier entry"),
        ([link("a", "b"), file("b")], "a: a hard link to b, which no earlier entry"),
        ([link("a", "a")], "a hard link to a"),
        ([file("a"), link("a", "a")], "to a folder or to itself"),
        ([folder("d"), link("a", "d")], "to a folder or to itself"),
        ([link("a", "")], "a hard link to "),
        ([link("a", ".wh.b")], "a hard link to .wh.b"),
        ([symlink("a", "/etc"), file("a/passwd")], "a/passwd: its path leads through a, which is a symlink"),
        ([symlink("a", "."), symlink("a/b", ".."), file("a/b/c")], "a/b: its path leads through a"),
        ([symlink("a", ".."), folder("a/b")], "leads through a"),
        ([symlink("a", "/etc"), file("a/.wh.passwd")], "leads through a"),
        ([symlink("a", "/etc"), file("a/.wh..wh..opq")], "leads through a"),
        ([folder("d"), symlink("d/s", "/etc"), link("x", "d/s/passwd")], "a hard link to d/s/passwd"),
        ([file("a"), file("a/b")], "leads through a, which is no folder"),
        ([file("a/b"), symlink("a", "/etc")], "a: is a folder with entries, and then none"),
        ([file("a/b"), file("a")], "is a folder with entries"),
        ([file(".wh.")], "a whiteout of a folder's own name, or of /"),
        ([file("a/.wh.")], "a whiteout of a folder's own name"),
        ([file(".wh..")], "a whiteout of a folder's own name"),
        ([file("a/.wh...")], "a whiteout of a folder's own name"),
        ([file("./.wh..wh..opq")], "hides all lower layers"),
        ([folder("./", xattrs={"trusted.overlay.opaque": "y"})], "the root is opaque"),
        ([file(".wh.a/b")], "lies below a whiteout"),
        ([file("a/.wh..wh..opq/b")], "lies below a whiteout"),
        ([file(".")], "the root is no folder"),
        ([symlink("./", "/etc")], "the root is no folder"),
        ([symlink("a", "")], "a symlink to nowhere"),
        ([symlink("a", "x" * 4096)], "a symlink to nowhere"),
        ([file("x" * 256)], "not a name that Linux could hold"),
        ([file("d/" * 256 + "x")], "nested more than 256 deep"),
        ([device("a", 5000, 1)], "a: a device 5000:1, which squashfs cannot hold"),
        ([device("a", 1, 1 << 20, tarfile.BLKTYPE)], "a device 1:1048576"),
        ([item("a", b"V")], "a: an entry of type b'V'"),
        ([item("a", b"M")], "an entry of type"),
        ([file("a", uid=2**32 - 1)], "its owner 4294967295:0 is no number"),
        ([file("a", xattrs={"user." + "x" * 251: "1"})], "an extended attribute that Linux could not hold"),
        ([file("a", xattrs={"user.x": "1" + "x" * 65536})], "an extended attribute that Linux could not"),
    ],
)  # fmt: skip
def test_what_can_never_be_a_layer_is_refused_with_its_name(
    tar: Path, items: list[Item], reason: str
) -> None:
    with pytest.raises(BadArchiveError, match=reason):
        read(tar, *items)


def test_the_last_entry_of_a_name_wins(tar: Path) -> None:
    tree = read(
        tar, file("a", "1"), file("./a", "22"), folder("d", 0o700), file("d/x"), folder("/d//", 0o711),
        file("s"), symlink("s", "a"), symlink("e", "a"), folder("e"),
    )  # fmt: skip
    assert kinds(tree) == {b"a": "file", b"d": "folder", b"d/x": "file", b"s": "symlink", b"e": "folder"}  # fmt: skip
    assert tree.paths[b"a"].size == 2
    assert tree.paths[b"d"].mode == 0o711


def test_a_hard_link_keeps_the_file_that_its_target_was_then(tar: Path) -> None:
    tree = read(tar, file("a", "1"), link("b", "/a"), file("a", "22"), link("c", "b"))
    assert tree.paths[b"b"] is tree.paths[b"c"]
    assert (tree.paths[b"b"].size, tree.paths[b"a"].size) == (1, 2)


def test_names_that_differ_in_case_alone_are_different_names(tar: Path) -> None:
    assert set(read(tar, file("A"), file("a"), symlink("B", "/etc"), file("b/x")).paths) == {
        b"A", b"a", b"B", b"b", b"b/x",
    }  # fmt: skip


def test_absolute_names_begin_at_the_root_of_the_image(tar: Path) -> None:
    assert set(read(tar, file("/etc//passwd"), folder("//")).paths) == {b"etc", b"etc/passwd"}


def test_a_whiteout_is_a_device_and_hides_what_lies_below_alone(tar: Path) -> None:
    tree = read(
        tar, file("d/.wh.gone"), file("kept"), file(".wh.kept"), file("new/x"), file(".wh.new")
    )
    gone = tree.paths[b"d/gone"]
    assert (gone.kind, gone.device, gone.mode) == ("char", (0, 0), 0)
    assert tree.paths[b"kept"].kind == "file"
    # The folder is of this layer, and shows nothing of the one that it replaces.
    assert tree.paths[b"new"].xattrs == (OPAQUE,)
    assert tree.paths[b"new/x"].kind == "file"


@pytest.mark.parametrize("first", [True, False])
def test_an_opaque_folder_is_marked_wherever_its_mark_stands(tar: Path, *, first: bool) -> None:
    items = [folder("d", 0o750), file("d/.wh..wh..opq"), file("d/x")]
    tree = read(tar, *(items if first else items[::-1]))
    assert (tree.paths[b"d"].mode, tree.paths[b"d"].xattrs) == (0o750, (OPAQUE,))
    assert set(tree.paths) == {b"d", b"d/x"}


def test_marks_of_aufs_are_left_out(tar: Path) -> None:
    assert (
        read(tar, file(".wh..wh.aufs"), folder(".wh..wh.plnk"), file(".wh..wh.plnk/1.2")).paths
        == {}
    )


def test_the_marks_of_an_overlay_stay_and_its_notes_do_not(tar: Path) -> None:
    notes = {
        "trusted.overlay.opaque": "y",
        "trusted.overlay.origin": "handle",
        "trusted.overlay.redirect": "/etc",
    }
    tree = read(tar, folder("d", xattrs=notes), device("gone", 0, 0), file("f", xattrs={"trusted.overlay.metacopy": ""}))  # fmt: skip
    assert tree.paths[b"d"].xattrs == (OPAQUE,)
    assert tree.paths[b"f"].xattrs == ()
    assert tree.paths[b"gone"].kind == "char"


def test_folders_that_are_not_listed_are_implied(tar: Path) -> None:
    tree = read(tar, file("a/b/c"), folder("a", 0o700), file("w/.wh.x"))
    assert tree.paths[b"a"].mode == 0o700
    assert tree.paths[b"a/b"] is IMPLIED
    assert tree.paths[b"w"] is IMPLIED
    assert tree.root is IMPLIED


def test_names_that_are_not_utf_8_stay_as_they_are(tar: Path) -> None:
    name = b"caf\xe9/\xff".decode("utf-8", "surrogateescape")
    tree = read(tar, file(name), symlink("s", name))
    assert b"caf\xe9/\xff" in tree.paths
    assert tree.paths[b"s"].target == b"caf\xe9/\xff"


@pytest.mark.parametrize("tar_format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_and_large_numbers_arrive(tar: Path, tar_format: int) -> None:
    long = "/".join(["n" * 200] * 3)
    tar.write_bytes(
        tar_of(
            file(long, uid=4_000_000_000, gid=3_000_000), symlink("s", long), tar_format=tar_format
        )
    )
    tree = check(tar, None)[0]
    found = tree.paths[long.encode()]
    assert (found.uid, found.gid) == (4_000_000_000, 3_000_000)
    assert tree.paths[b"s"].target == long.encode()


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (ArchiveLimits(entries=3), "a/b/d: more than 3 entries"),
        (ArchiveLimits(text_bytes=10), "names and attributes have more than"),
        (ArchiveLimits(depth=2), "nested more than 2 deep"),
        (ArchiveLimits(owners=1), "more than 1 different owners"),
        (ArchiveLimits(content_bytes=9), "the files have more than"),
    ],
)
def test_a_tree_beyond_a_limit_is_refused(tar: Path, limits: ArchiveLimits, reason: str) -> None:
    tar.write_bytes(tar_of(file("a/b/c", "12345"), file("a/b/d", "12345", uid=7)))
    with ArchiveStream(tar) as stream, pytest.raises(BadArchiveError, match=reason):
        tree_of(Headers(stream), limits)


def test_one_name_a_million_times_is_a_million_entries(tar: Path) -> None:
    tar.write_bytes(tar_of(*[file("a")] * 9))
    with ArchiveStream(tar) as stream, pytest.raises(BadArchiveError, match="more than 8 entries"):
        tree_of(Headers(stream), ArchiveLimits(entries=8))


SMALL = {
    "attributes without a value": {f"SCHILY.xattr.user.{number}": "" for number in range(1000)},
    "a file of many parts": {
        "GNU.sparse.map": ",".join(f"{2 * at},1" for at in range(1000)),
        "GNU.sparse.size": "2000",
    },
}


@pytest.mark.parametrize("headers", SMALL.values(), ids=SMALL)
def test_what_a_tar_says_in_few_bytes_and_a_table_in_many_is_bounded_too(
    tar: Path, headers: dict[str, str]
) -> None:
    tar.write_bytes(tar_of(*[file("a", b"x" * 1000, pax_headers=headers)] * 9))
    with ArchiveStream(tar) as stream, pytest.raises(BadArchiveError, match="attributes have more"):
        tree_of(Headers(stream), ArchiveLimits(text_bytes=1 << 20))


@pytest.mark.parametrize("number", [b"\xff" + bytes(7), b"\x80" + b"\xff" * 7])
@pytest.mark.parametrize("kind", [b"0", b"1", b"2", b"5", b"6"])
def test_numbers_of_a_device_on_what_is_none_shift_no_header(
    tar: Path, kind: bytes, number: bytes
) -> None:
    """The programs that make images would read the content of a file as entries."""
    raw = bytearray(tar_of(file("l"), item("a", kind, linkname="l"), file("b", "content")))
    raw[512 + 329 : 512 + 345] = 2 * number
    raw[512 + 148 : 512 + 156] = b" " * 8
    raw[512 + 148 : 512 + 156] = b"%06o\0 " % sum(raw[512:1024])
    tar.write_bytes(raw)
    tree = check(tar, None)[0]
    out = io.BytesIO()
    with ArchiveStream(tar) as stream:
        write_tree(tree, stream, out, with_root=True)
    out.seek(0)
    with tarfile.open(fileobj=out, errorlevel=2) as read_again:
        assert sorted(read_again.getnames()) == [".", "a", "b", "l"]
