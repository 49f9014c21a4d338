"""Strangers' tars where layers are read: hostile names, links, marks and headers, and bytes changed at random.

`python -m tests.fuzz.archives ENTRIES [SEED]` tries so many entries that are read, some dozen to a tar. The same seed is the same
entries. It ends with 1, and the tar in a file, when one brings an exception that is not the reader's own, when
the reader opens anything but the tar, when what it writes has a name that leads out, comes before its folder, or
has other content than the tar says; or when time or memory grow without end.
"""

from __future__ import annotations

import gzip
import io
import os
import random
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from reconciler.image.archive.headers import Headers, TarEntry
from reconciler.image.archive.layer_tree import OPAQUE, ArchiveLimits, LayerTree, tree_of
from reconciler.image.archive.packing import Request, pack
from reconciler.image.archive.stream import ArchiveStream, BadArchiveError
from reconciler.image.archive.tar_writer import write_tree
from tests.fuzz.git_objects import GROWTH_MIB, SLOW, ensure, memory_mib, say
from tests.unit.image.archive.archives import Item, item, listed, tar_of

COMPONENTS = (
    "a", "b", "c", "A", "lib", "usr", "..", ".", "", ".wh.a", ".wh.b", ".wh..wh..opq", ".wh..wh.plnk", ".wh.", ".wh..",
    "x" * 255, "x" * 256, "\udcff", "é", "new\nline", "back\\slash", "-rf", "~", "%s",
)  # fmt: skip
FOLDERS, LEAVES = ("a", "lib", "usr"), ("f", "g", "é", "F", "link", ".w", "x" * 255)
"""Names that need no thought: of folders, and of what is in them."""
KINDS = (
    tarfile.REGTYPE, tarfile.REGTYPE, tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE,
    tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE, tarfile.AREGTYPE, b"V", b"Z",
)  # fmt: skip
KEYS = (
    "SCHILY.xattr.user.x", "SCHILY.xattr.trusted.overlay.opaque", "SCHILY.xattr.trusted.overlay.redirect",
    "SCHILY.xattr.security.capability", "SCHILY.xattr.system.posix_acl_access", "path", "linkpath", "size", "uid", "mtime",
    "GNU.sparse.major", "GNU.sparse.map", "GNU.sparse.size", "GNU.sparse.realsize", "GNU.sparse.name", "hdrcharset", "comment",
)  # fmt: skip
VALUES = (
    "y",
    "",
    "0",
    "-1",
    "1",
    "7",
    "512",
    "9" * 30,
    "BINARY",
    "0,1",
    "../x",
    "nan",
    "a",
    "x\0y",
)
MARKED = 0.03
"""Share of the names that hide something."""
NUMBERS = (0, 1, 7, 0o7777, 65535, 2**21, 2**31, 2**32 - 1, 2**32)
TRIED = {"os.mkdir", "os.link", "os.symlink", "os.rename", "os.remove", "os.chmod", "os.chown", "os.setxattr", "os.rmdir", "os.truncate"}  # fmt: skip
"""What nobody has to do who only reads."""
EACH_PACKED = 300
"""Of so many tars one becomes a real image."""


class Watch:
    """Finds out, from Python itself, what a reader opens and changes."""

    def __init__(self) -> None:
        self.allowed: Path | None = None
        """The only file that may be opened; None: this does not look."""
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.allowed is None:
            return
        # A number is of a file that is open already.
        known = isinstance(arguments[0], int) or str(arguments[0]) == str(self.allowed)
        opens = event == "open" and not known
        if opens or event in TRIED or event.startswith("subprocess"):
            self.allowed = None
            raise AssertionError(f"{event} {arguments}")


def name_in(draw: random.Random, hostile: float, *, folder: bool) -> str:
    depth = draw.choice((0, 0, 1, 1, 2, 4))
    confused = draw.random() < hostile  # what was a folder is a file then, and the other way round
    leaves = FOLDERS if folder != confused else LEAVES
    parts = [*draw.choices(FOLDERS, k=depth), draw.choice(leaves)]
    if draw.random() < hostile:
        parts = draw.choices(COMPONENTS, k=depth + 1)
    elif draw.random() < MARKED and not folder:
        parts[-1] = draw.choice((".wh..wh..opq", ".wh.f", ".wh.lib")) if depth else ".wh.g"
    return draw.choice(("", "", "", "./", "/")) + "/".join(parts)


def items_in(draw: random.Random) -> list[Item]:
    """Some dozen entries; how hostile they are differs, so that some tars are read to their end."""
    hostile = draw.choice((0.0, 0.0, 0.005, 0.02, 0.1))
    found: list[Item] = []
    for number in range(draw.randrange(60)):
        kind = draw.choice(KINDS if draw.random() < hostile else KINDS[:9])
        content = b"%d." % number * draw.choice((0, 1, 1, 200)) if kind == tarfile.REGTYPE else b""
        name = name_in(draw, hostile, folder=kind == tarfile.DIRTYPE)
        values: dict[str, object] = {"mode": draw.randrange(0o10000)}
        if kind == tarfile.SYMTYPE:
            values["linkname"] = name_in(draw, hostile, folder=False)
        if kind == tarfile.LNKTYPE:
            earlier = [
                made.name
                for made, _ in found
                if made.type == tarfile.REGTYPE and ".wh." not in made.name
            ]
            strange = draw.random() < hostile or not earlier
            values["linkname"] = name_in(draw, 1, folder=False) if strange else draw.choice(earlier)
            if values["linkname"].strip("./") == name.strip("./"):  # type: ignore[attr-defined]  # text
                continue
        if draw.random() < hostile:
            values["uid"], values["devmajor"] = (
                draw.choice(NUMBERS),
                draw.choice((0, 1, 4095, 4096)),
            )
        made, raw = item(name, kind, content, **values)  # type: ignore[arg-type]  # values of an entry
        if draw.random() < max(hostile, 0.02):
            keys = KEYS if draw.random() < hostile else KEYS[:5]
            made.pax_headers = {
                draw.choice(keys): draw.choice(VALUES) for _ in range(draw.randrange(4))
            }
        found.append((made, raw))
    return found


def tar_in(draw: random.Random, items: list[Item]) -> tuple[bytes, bool]:
    """A tar of these, and whether it is as it was written."""
    try:
        tar = tar_of(
            *items,
            tar_format=draw.choice((tarfile.PAX_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)),
        )
    except (ValueError, UnicodeError):
        return b"", False
    whole = draw.random() < 0.6
    if not whole:
        tar = damaged(draw, tar)
    if draw.random() < 0.1:
        tar = gzip.compress(tar, 1)
        if draw.random() < 0.3:
            return damaged(draw, tar), False
    return tar, whole


def damaged(draw: random.Random, tar: bytes) -> bytes:
    """With some bytes changed, in headers above all, and then a checksum that fits them."""
    raw = bytearray(tar)
    for _ in range(draw.choice((1, 1, 2, 5))):
        if not raw:
            break
        block = draw.randrange(len(raw) // 512 + 1) * 512
        at = min(block + draw.choice((0, 100, 108, 116, 124, 135, 136, 156, 157, 257, 345, draw.randrange(512))), len(raw) - 1)  # fmt: skip
        match draw.randrange(6):
            case 0:
                raw[at] = draw.choice(b"\0\xff\x80.0179xgLKSVD12356/")
            case 1:
                raw[at : at + 12] = draw.choice((b"\xff" * 12, b"\x80" + bytes(10) + b"\1", b"77777777777\0", b"-1", b"\0" * 12))  # fmt: skip
            case 2:
                del raw[at:]
            case 3:
                del raw[block : block + 512]
            case 4:
                raw[block:block] = raw[: 512 * draw.randrange(4)]
            case _:
                raw[block:block] = draw.randbytes(512)
        header = raw[block : block + 512]
        if len(header) == 512 and draw.random() < 0.8:
            header[148:156] = b" " * 8
            raw[block + 148 : block + 156] = b"%06o\0 " % sum(header)
    return bytes(raw)


def written(tree: LayerTree, tar: Path) -> bytes:
    out = io.BytesIO()
    with ArchiveStream(tar) as stream:
        write_tree(tree, stream, out, with_root=True)
    return out.getvalue()


def check_written(raw: bytes, tree: LayerTree) -> dict[str, bytes]:
    """What is written can be read by the strictest reader, and nothing in it leads out; returns the files."""
    files: dict[str, bytes] = {}
    folders, others = {""}, set[str]()
    with tarfile.open(fileobj=io.BytesIO(raw), errorlevel=2) as out:
        members = iter(out)
        ensure(next(members).name == ".", "no root")
        for member in members:
            name = member.name
            parts = name.split("/")
            ensure(not {"", ".", ".."} & set(parts) and "\0" not in name, name)
            ensure(not any(part.startswith(".wh.") for part in parts), name)
            ensure(max(len(os.fsencode(part)) for part in parts) <= 255, name)
            ensure("/".join(parts[:-1]) in folders, name, "before its folder")
            ensure(name not in folders and name not in others and name not in files, name, "twice")
            if member.isdir():
                folders.add(name)
            elif member.isreg():
                content = out.extractfile(member)
                ensure(content is not None)
                files[name] = content.read() if content else b""
            elif member.islnk():
                ensure(member.linkname in files, name, member.linkname)
                files[name] = files[member.linkname]
            else:
                others.add(name)
            overlay = {
                key: value for key, value in member.pax_headers.items() if "trusted.overlay" in key
            }
            ensure(overlay in ({}, {f"SCHILY.xattr.{OPAQUE[0].decode()}": "y"}), name, overlay)
    ensure(len(folders) - 1 + len(others) + len(files) == len(tree.paths))
    return files


def contents_of(items: list[Item]) -> dict[str, bytes]:
    """The last file of each path, by the tar's own words; only names that need no thought."""
    found: dict[str, bytes] = {}
    for made, content in items:
        plain = "/".join(part for part in made.name.split("/") if part not in ("", "."))
        if made.type == tarfile.REGTYPE and not made.pax_headers:
            found[plain] = content
        else:
            found.pop(plain, None)
    return found


class Counted:
    """Entries on their way to the tree: those after the one that is refused are never read."""

    def __init__(self) -> None:
        self.read = 0

    def of(self, entries: Iterable[TarEntry]) -> Iterator[TarEntry]:
        for entry in entries:
            self.read += 1
            yield entry


def one(draw: random.Random, folder: Path, watch: Watch) -> tuple[int, bytes, bool]:
    """Try one tar; how many entries of it were read, its bytes, and whether it is a layer."""
    counted = Counted()
    items = items_in(draw)
    raw, whole = tar_in(draw, items)
    tar = folder / "layer.tar"
    tar.write_bytes(raw)
    watch.allowed = tar
    try:
        with ArchiveStream(tar) as stream:
            tree = tree_of(counted.of(Headers(stream)), ArchiveLimits(content_bytes=1 << 20))
            stream.finish()
        made = written(tree, tar)
    except BadArchiveError as error:
        ensure(0 < len(str(error)) < 2000, str(error))
        return counted.read, raw, False
    finally:
        watch.allowed = None
    files = check_written(made, tree)
    if whole:
        for name, content in contents_of(items).items():
            ensure(files.get(name, content) == content, name)
    return counted.read, raw, True


def image(folder: Path) -> None:
    """The tar as a real image: it has the tree's names, and nothing else came to be."""
    work = folder / "work"
    work.mkdir()
    tar = folder / "layer.tar"
    with ArchiveStream(tar) as stream:
        digest = f"sha256:{stream.finish()}"  # else one without the mark of its end is refused
    contents = work / "contents"
    pack(Request(str(tar), digest, "squashfs", str(work), str(work / "image"), str(contents)))
    with ArchiveStream(tar) as stream:
        tree = tree_of(Headers(stream))
    names = {path.decode("utf-8", "backslashreplace") for path in tree.paths if b"\n" not in path}
    if len(names) == len(tree.paths):
        ensure(set(listed(work / "image")) - {"/"} == names)
    ensure(sorted(path.name for path in folder.iterdir()) == ["layer.tar", "work"])
    ensure(sorted(path.name for path in work.iterdir()) == ["contents", "image"])
    for path in [*work.iterdir()]:
        path.unlink()
    work.rmdir()


def tried(entries: int, seed: int, folder: Path) -> Iterator[tuple[float, bool]]:
    """Seconds and verdict for each tar, until so many entries were tried."""
    watch = Watch()
    count = number = 0
    while count < entries:
        draw = random.Random(f"archives {seed} {number}")  # noqa: S311 - the same seed, the same inputs
        at = time.monotonic()
        try:
            tried_now, raw, is_layer = one(draw, folder, watch)
            if is_layer and number % EACH_PACKED == 0 and raw:
                image(folder)
        except BaseException:
            kept = Path(f"crash-archives-{seed}-{number}")
            kept.write_bytes((folder / "layer.tar").read_bytes())
            say(f"tar {number} of seed {seed} broke it, and is in {kept}")
            raise
        count += tried_now
        number += 1
        yield time.monotonic() - at, is_layer


def main(entries: int, seed: int) -> int:
    """Try so many entries; 0 when all were well."""
    began, before = time.monotonic(), memory_mib()
    tars = layers = 0
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        for seconds, is_layer in tried(entries, seed, Path(folder)):
            tars += 1
            layers += is_layer
            if seconds > SLOW:
                say(f"one tar took {seconds:.1f} s")
                return 1
    grown = memory_mib() - before
    say(
        f"{entries} entries in {tars} tars, of which {layers} are layers, in {time.monotonic() - began:.0f} s;"
        f" memory grew by {grown:.0f} MiB"
    )
    return 0 if grown <= GROWTH_MIB and layers else 1


if __name__ == "__main__":
    os.nice(10)
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1))
