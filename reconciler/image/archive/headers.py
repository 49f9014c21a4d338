"""The entries of a tar, one after the other, from a stream that is read once.

Python's tarfile reads the headers. What it would do without bound is checked before: the size of a header, and
the form of pax records, for which some of its versions take time or memory that grows with the square.
"""

from __future__ import annotations

import io
import math
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from reconciler.image.archive.stream import ArchiveStream, BadArchiveError

MOST_HEADER_BYTES = 1 << 20
"""Of one entry: long names, pax records, and the map of a sparse file. Linux has 64 KiB of attributes a file."""
MOST_XATTR_BYTES = 64 << 10
"""Of a value, as in Linux."""
MOST_XATTR_NAME = 255
MOST_LENGTH_DIGITS = 8
"""Of a pax record's length: more than a header may have."""
LONG_NUMBER = re.compile(rb"[0-9]{1000}")
"""tarfile looks for numbers from every digit on; no attribute needs one like this."""
PAX_TYPES = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
NUMBERS = {
    b"uid": re.compile(rb"[0-9]{1,10}"),
    b"gid": re.compile(rb"[0-9]{1,10}"),
    b"size": re.compile(rb"[0-9]{1,19}"),
    b"mtime": re.compile(rb"-?[0-9]{1,19}(\.[0-9]*)?"),
}
"""tarfile would take 0 for what is no number: root, for an owner."""
XATTR = "SCHILY.xattr."
HARMLESS_FOR_ALL = {"comment"}
"""Keys that a global pax header may have; git writes one. Others are read in different ways by different readers."""
MOST_SHOWN = 400
"""Bytes of a name in a message."""
LAST_OWNER = 2**32 - 2
LAST_TIME = 2**32 - 1
"""As squashfs stores it."""

Kind = Literal["file", "folder", "symlink", "link", "char", "block", "fifo"]
KINDS: dict[bytes, Kind] = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.CONTTYPE: "file",
    tarfile.GNUTYPE_SPARSE: "file",
    tarfile.DIRTYPE: "folder",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "link",
    tarfile.CHRTYPE: "char",
    tarfile.BLKTYPE: "block",
    tarfile.FIFOTYPE: "fifo",
}
Xattrs = tuple[tuple[bytes, bytes], ...]
Parts = tuple[tuple[int, int], ...]
MALFORMED = (
    tarfile.TarError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RecursionError,
)  # fmt: skip
"""What tarfile raises for bytes that are no header, in one version or another."""


@dataclass(frozen=True, slots=True)
class TarEntry:
    """One entry as the archive has it, its name unchecked."""

    name: bytes
    kind: Kind
    mode: int
    """Without the bits of the kind."""
    uid: int
    gid: int
    mtime: int
    size: int = 0
    """Of a file as it is seen, holes included."""
    target: bytes = b""
    """Of a symlink or hard link."""
    device: tuple[int, int] = (0, 0)
    xattrs: Xattrs = ()
    at: int = 0
    """Where a file's bytes begin in the archive."""
    parts: Parts | None = None
    """Of a sparse file: offset and size of what is not zero. None: all of it is in the archive."""


class Headers:
    """Reads the entries of one archive."""

    def __init__(self, stream: ArchiveStream) -> None:
        self._stream = stream
        self._allowed = 0
        self._returned = b""
        self.ended = False
        """Whether the archive has its mark of the end, and is not just over."""
        # An empty archive, and then ours: opening it at once would read its first entry already.
        empty = io.BytesIO(bytes(2 * tarfile.BLOCKSIZE))
        self._tar = tarfile.TarFile(fileobj=empty, tarinfo=_Member, encoding="utf-8", errors="surrogateescape")  # fmt: skip
        self._tar.fileobj = self  # type: ignore[assignment]  # as much of a file as it asks for
        self._tar.offset = 0

    def __iter__(self) -> Iterator[TarEntry]:
        """All entries; the stream may be read on to the next one's header. Raises BadArchiveError."""
        while (entry := self._next()) is not None:
            yield entry

    def _next(self) -> TarEntry | None:
        at = self._tar.offset
        if not self._stream.skip_to(at):
            raise BadArchiveError("the archive is cut off within its last entry")
        self._allowed = MOST_HEADER_BYTES
        try:
            found = _Member.fromtarfile(self._tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # typeshed does not list it
            self.ended = True
            return None
        except tarfile.EmptyHeaderError:  # type: ignore[attr-defined]  # the same
            return None
        except MALFORMED as error:
            what = "the archive is no tar" if not at else f"no header at byte {at} of the archive"
            raise BadArchiveError(f"{what}: {error}") from error
        if self._tar.pax_headers.keys() - HARMLESS_FOR_ALL:
            raise BadArchiveError(
                f"the archive has a global header at byte {at} that changes entries"
            )
        return _entry(found, self._tar.offset)

    def read(self, size: int) -> bytes:
        """For tarfile: bytes of a header, within the bound."""
        self._allowed -= size
        if size < 0 or self._allowed < 0:
            raise BadArchiveError(
                f"a header at byte {self.tell()} of the archive has more than 1 MiB"
            )
        if self._returned:
            found, self._returned = self._returned, b""
            return found
        return self._stream.read(size)

    def tell(self) -> int:
        """For tarfile: where it is."""
        return self._stream.position

    def check_records(self, size: int) -> None:
        """Look at pax records before tarfile reads them. Raises BadArchiveError."""
        whole = -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        records = self.read(whole)
        self._allowed += whole
        self._returned = records
        _check_records(records[:size], self.tell())


class _Member(tarfile.TarInfo):
    """tarfile calls `_proc_member` of a subclass for each header that it reads."""

    def _proc_member(self, tar: Any) -> Any:
        if self.type in PAX_TYPES:
            tar.fileobj.check_records(self.size)
        return super()._proc_member(tar)  # type: ignore[misc]  # typeshed does not list it


def _check_records(records: bytes, at: int) -> None:
    malformed = BadArchiveError(f"malformed pax records before byte {at} of the archive")
    if LONG_NUMBER.search(records):
        raise malformed
    position = 0
    while position < len(records):
        length, space, _ = records[position : position + MOST_LENGTH_DIGITS].partition(b" ")
        if not space or not length.isdigit():
            raise malformed
        end = position + int(length)
        record = records[position + len(length) + 1 : end]
        key, equals, value = record.partition(b"=")
        if not key or not equals or end > len(records) or not record.endswith(b"\n"):
            raise malformed
        if (number := NUMBERS.get(key)) is not None and not number.fullmatch(value[:-1]):
            raise malformed
        position = end


def _entry(found: tarfile.TarInfo, end: int) -> TarEntry:
    name = _raw(found.name)
    kind = KINDS.get(found.type)
    if kind is None:
        raise BadArchiveError(
            f"{shown(name)}: an entry of type {found.type!r}, which no folder can hold"
        )
    if found.size < 0 or end < found.offset_data:
        raise BadArchiveError(f"{shown(name)}: its size is negative")
    if not math.isfinite(found.mtime):
        raise BadArchiveError(f"{shown(name)}: its time is no number")
    if not (0 <= found.uid <= LAST_OWNER and 0 <= found.gid <= LAST_OWNER):
        raise BadArchiveError(
            f"{shown(name)}: its owner {found.uid}:{found.gid} is no number of an owner"
        )
    return TarEntry(
        name=name,
        kind=kind,
        mode=found.mode & 0o7777,
        uid=found.uid,
        gid=found.gid,
        mtime=min(max(int(found.mtime), 0), LAST_TIME),
        size=found.size if kind == "file" else 0,
        target=_raw(found.linkname),
        # Of other kinds it is any number, and nothing that a writer has room for.
        device=(found.devmajor, found.devminor) if kind in ("char", "block") else (0, 0),
        xattrs=_xattrs(name, found.pax_headers) if found.pax_headers else (),
        at=found.offset_data,
        parts=_parts(name, found, end),
    )


def _parts(name: bytes, found: tarfile.TarInfo, end: int) -> Parts | None:
    if found.sparse is None:
        return None
    listed: Any = found.sparse  # pairs, whatever typeshed says
    parts = tuple((offset, size) for offset, size in listed if size)
    stored = sum(size for _, size in parts)
    after = 0
    for offset, size in parts:
        if offset < after or size < 0:
            raise BadArchiveError(f"{shown(name)}: a sparse file whose parts overlap")
        after = offset + size
    blocks = -(-stored // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    if after > found.size or found.offset_data + blocks != end:
        raise BadArchiveError(f"{shown(name)}: a sparse file whose parts do not fit its size")
    return parts


def _xattrs(name: bytes, headers: Any) -> Xattrs:
    found = []
    for key, value in headers.items():
        if key.startswith(XATTR):
            attribute, raw = _raw(key.removeprefix(XATTR)), _raw(value)
            if (
                not 0 < len(attribute) <= MOST_XATTR_NAME
                or len(raw) > MOST_XATTR_BYTES
                or b"\0" in attribute
            ):
                raise BadArchiveError(
                    f"{shown(name)}: an extended attribute that Linux could not hold"
                )
            found.append((attribute, raw))
    return tuple(sorted(found))


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def shown(name: bytes) -> str:
    """A name for messages."""
    return name[:MOST_SHOWN].decode("utf-8", "backslashreplace") or "."
