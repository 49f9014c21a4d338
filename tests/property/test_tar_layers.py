"""Any tree that Linux can hold, as a tar in any order, is the same tree in the image."""

from __future__ import annotations

import os
import random
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from reconciler.image.archive.packing import Request, pack
from tests.unit.image.archive.archives import Item, Seen, item, link, listed, tar_of, unpacked

pytestmark = [
    pytest.mark.skipif(shutil.which("unsquashfs") is None, reason="squashfs-tools are missing"),
    pytest.mark.timeout(180),  # three programs for each example
]
KINDS = {
    tarfile.REGTYPE: "-", tarfile.DIRTYPE: "d", tarfile.SYMTYPE: "l",
    tarfile.CHRTYPE: "c", tarfile.BLKTYPE: "b", tarfile.FIFOTYPE: "p",
}  # fmt: skip
BITS = ("r", "w", "x")
owners = st.integers(0, 2**32 - 2) | st.sampled_from((0, 0, 33, 65534, 2**21 - 1, 2**21))
names = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0\n"), min_size=1, max_size=60
).filter(lambda name: name not in (".", "..") and not name.startswith(".wh.") and len(name.encode()) < 256)  # fmt: skip
about = st.fixed_dictionaries(
    {
        "mode": st.integers(0, 0o7777),
        "uid": owners,
        "gid": owners,
        "mtime": st.integers(0, 1_700_000_000),
    }
)
leaves = st.one_of(
    st.tuples(st.just(tarfile.REGTYPE), about, st.binary(max_size=3000)),
    st.tuples(st.just(tarfile.SYMTYPE), about, st.text("/.ab", min_size=1, max_size=200)),
    st.tuples(st.sampled_from((tarfile.CHRTYPE, tarfile.BLKTYPE)), about, st.tuples(st.integers(1, 4095), st.integers(0, 255))),
    st.tuples(st.just(tarfile.FIFOTYPE), about, st.none()),
)  # fmt: skip
Leaf = tuple[bytes, dict[str, Any], Any]
trees = st.recursive(
    leaves,
    lambda inner: st.tuples(st.just(tarfile.DIRTYPE), about, st.dictionaries(names, inner, max_size=5)),
    max_leaves=12,
)  # fmt: skip
roots = st.dictionaries(names, trees, max_size=5)


def items_of(tree: dict[str, Leaf], above: str = "") -> Iterator[Item]:
    for name, (kind, values, content) in tree.items():
        path = f"{above}{name}"
        if kind == tarfile.REGTYPE:
            yield item(path, kind, content, **values)
        elif kind == tarfile.SYMTYPE:
            yield item(path, kind, linkname=content, **values)
        elif kind == tarfile.FIFOTYPE:
            yield item(path, kind, **values)
        elif kind == tarfile.DIRTYPE:
            yield item(path, kind, **values)
            yield from items_of(content, f"{path}/")
        else:
            yield item(path, kind, devmajor=content[0], devminor=content[1], **values)


def letters(kind: bytes, mode: int) -> str:
    """As `ls -l` writes it."""
    if kind == tarfile.SYMTYPE:
        return "lrwxrwxrwx"
    found = ""
    for shift, special, letter in ((6, 0o4000, "s"), (3, 0o2000, "s"), (0, 0o1000, "t")):
        three = [bit if mode >> shift & 4 >> at else "-" for at, bit in enumerate(BITS)]
        if mode & special:
            three[2] = letter if three[2] == "x" else letter.upper()
        found += "".join(three)
    return KINDS[kind] + found


def expected(made: tarfile.TarInfo) -> Seen:
    mode = letters(made.type, made.mode)
    if made.isreg():
        return Seen(mode, made.uid, made.gid, str(made.size))
    if made.issym():
        return Seen(mode, made.uid, made.gid, str(len(made.linkname)), made.linkname)
    if made.ischr() or made.isblk():
        return Seen(mode, made.uid, made.gid, f"{made.devmajor},{made.devminor}")
    return Seen(mode, made.uid, made.gid, "")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(roots, st.integers(), st.sampled_from((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)))
def test_a_tree_comes_out_as_it_went_in(root: dict[str, Leaf], order: int, form: int) -> None:
    items = list(items_of(root))
    random.Random(order).shuffle(items)  # noqa: S311  # the same example, the same order
    files = [made.name for made, _ in items if made.isreg()]
    if files:
        items.append(link("a second name", files[0]))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tar = folder / "layer.tar"
        tar.write_bytes(tar_of(*items, tar_format=form))
        image = folder / "image"
        pack(Request(str(tar), None, "squashfs", name, str(image), str(folder / "contents")))
        seen = listed(image)
        for made, _ in items:
            if made.islnk():
                continue
            found = seen[os.fsencode(made.name).decode("utf-8", "backslashreplace")]
            wanted = expected(made)
            assert found == (
                wanted if wanted.size else Seen(wanted.mode, wanted.uid, wanted.gid, found.size)
            )
        assert len(seen) == len(items) + 1
        if os.geteuid() == 0:
            out = unpacked(image, folder / "out")
            for made, content in items:
                if made.isreg():
                    assert (out / made.name).read_bytes() == content
                    assert (out / made.name).stat().st_mtime == made.mtime
