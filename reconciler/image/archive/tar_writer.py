"""Writes the tree of a layer as a plain tar, which the programs that make images read.

Everything that has no content comes first, folders before what is in them; then the files in the order in which
the archive has them, so that it is read only once more; then the other names of files.
"""

from __future__ import annotations

from typing import IO

from reconciler.image.archive.headers import Kind, TarEntry
from reconciler.image.archive.layer_tree import LayerTree
from reconciler.image.archive.stream import ArchiveStream, BadArchiveError

BLOCK = 512
MOST_NAME = 100
MOST_OWNER = 0o7777777
MOST_SIZE = 0o77777777777
BUFFER = 1 << 20
TYPES: dict[Kind, bytes] = {
    "file": b"0", "link": b"1", "symlink": b"2", "char": b"3", "block": b"4", "folder": b"5", "fifo": b"6",
}  # fmt: skip
PAX = b"x"
PAX_NAME = b"pax"
END = bytes(2 * BLOCK)
NO_NAMES, NO_PREFIX = bytes(64), bytes(167)
"""Of user and group, which are numbers here; of a long path, which is in pax."""
CHANGED = "the archive was changed while it was packed"


def write_tree(tree: LayerTree, stream: ArchiveStream, out: IO[bytes], *, with_root: bool) -> None:
    """Write all of it; `stream` is the archive from its beginning. Raises BadArchiveError and OSError."""
    buffered = _Buffer(out)
    if with_root:
        buffered.write(headers(b"./", tree.root))
    files: list[tuple[bytes, TarEntry]] = []
    links: list[tuple[bytes, bytes]] = []
    names: dict[int, bytes] = {}
    for path in sorted(tree.paths):
        entry = tree.paths[path]
        if entry.kind != "file":
            buffered.write(headers(path, entry))
        elif (first := names.setdefault(id(entry), path)) is path:
            files.append((path, entry))
        else:
            links.append((path, first))
    files.sort(key=lambda file: file[1].at)
    for path, entry in files:
        buffered.write(headers(path, entry))
        _copy(entry, stream, buffered)
    for path, first in links:
        buffered.write(headers(path, TarEntry(path, "link", 0, 0, 0, 0, target=first)))
    buffered.write(END)
    buffered.flush()


def _copy(entry: TarEntry, stream: ArchiveStream, out: _Buffer) -> None:
    if not stream.skip_to(entry.at):
        raise BadArchiveError(CHANGED)
    at = 0
    for offset, size in ((0, entry.size),) if entry.parts is None else entry.parts:
        out.zeros(offset - at)
        if stream.copy(size, out.write) != size:
            raise BadArchiveError(CHANGED)
        at = offset + size
    out.zeros(entry.size - at)
    out.zeros(-entry.size % BLOCK)


class _Buffer:
    """Few large writes: most entries are small."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._held = bytearray()

    def write(self, piece: bytes | memoryview) -> None:
        self._held += piece
        if len(self._held) >= BUFFER:
            self.flush()

    def zeros(self, size: int) -> None:
        while size > 0:
            some = min(size, BUFFER)
            self.write(bytes(some))
            size -= some

    def flush(self) -> None:
        self._out.write(self._held)
        self._held.clear()


def headers(path: bytes, entry: TarEntry) -> bytes:
    """The header of an entry, after one of pax for what has no room in it."""
    target = entry.target if entry.kind in ("symlink", "link") else b""
    records = [(b"SCHILY.xattr." + key, value) for key, value in entry.xattrs]
    if len(path) > MOST_NAME:
        records.append((b"path", path))
    if len(target) > MOST_NAME:
        records.append((b"linkpath", target))
    records += [
        (key, b"%d" % value)
        for key, value, most in (
            (b"uid", entry.uid, MOST_OWNER),
            (b"gid", entry.gid, MOST_OWNER),
            (b"size", entry.size, MOST_SIZE),
        )
        if value > most
    ]
    own = _header(path, target, TYPES[entry.kind], entry)
    if not records:
        return own
    body = b"".join(_record(key, value) for key, value in records)
    of_records = TarEntry(PAX_NAME, "file", 0o644, 0, 0, 0, size=len(body))
    return _header(PAX_NAME, b"", PAX, of_records) + body + bytes(-len(body) % BLOCK) + own


def _header(path: bytes, target: bytes, kind: bytes, entry: TarEntry) -> bytes:
    before = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0" % (
        path[:MOST_NAME].ljust(MOST_NAME, b"\0"),
        entry.mode,
        entry.uid if entry.uid <= MOST_OWNER else 0,
        entry.gid if entry.gid <= MOST_OWNER else 0,
        entry.size if entry.size <= MOST_SIZE else 0,
        entry.mtime,
    )
    after = b"%b%bustar\x0000%b%07o\0%07o\0%b" % (
        kind, target[:MOST_NAME].ljust(MOST_NAME, b"\0"), NO_NAMES, *entry.device, NO_PREFIX,
    )  # fmt: skip
    if len(before) + 8 + len(after) != BLOCK:
        # All that follows would be read at other places than it is written.
        raise AssertionError(f"a header of other than {BLOCK} bytes: {entry}")
    total = sum(before) + sum(after) + 8 * 32
    return b"%b%06o\0 %b" % (before, total, after)


def _record(key: bytes, value: bytes) -> bytes:
    """One of pax: its own length, in digits, counts too."""
    rest = b" %b=%b\n" % (key, value)
    length = len(rest) + len(str(len(rest)))
    if len(str(length)) > len(str(len(rest))):
        length += 1
    return b"%d%b" % (length, rest)
