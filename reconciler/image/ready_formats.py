"""What a ready file is, by the marks in its first bytes: a file system of a layer, or something else with a name.

Nothing but marks is read here; what the marks promise, only the guest's kernel finds out.
"""

from __future__ import annotations

from typing import NamedTuple

from reconciler.model.layer_kinds.image_layer import ReadyFormat

HEAD_BYTES = 68 * 1024
"""With the mark of btrfs, which stands last."""


class OtherFormat(NamedTuple):
    """Bytes at a place that tell what a file is."""

    offset: int
    mark: bytes
    name: str
    hint: str


FORMATS: tuple[tuple[int, bytes, ReadyFormat], ...] = (
    # In the order in which the guest's first process looks.
    (0, b"hsqs", "squashfs"),
    (1024, b"\xe2\xe1\xf5\xe0", "erofs"),
    (1080, b"\x53\xef", "ext4"),
)
OF_A_DISK = "use `disk` in `spec`, or take the file system out of its partition"
COMPRESSED = "unpack it, and name the sha256 of what comes out"
NO_LAYER = "a layer is an erofs, squashfs or ext4 image"
OTHERS = (
    OtherFormat(512, b"EFI PART", "a disk with a GPT partition table", OF_A_DISK),
    OtherFormat(4096, b"EFI PART", "a disk with a GPT partition table", OF_A_DISK),
    OtherFormat(0, b"QFI\xfb", "a qcow2 disk", OF_A_DISK),
    OtherFormat(0, b"KDMV", "a VMDK disk", OF_A_DISK),
    OtherFormat(0, b"vhdxfile", "a VHDX disk", OF_A_DISK),
    OtherFormat(0, b"\x1f\x8b", "compressed by gzip", COMPRESSED),
    OtherFormat(0, b"\xfd7zXZ\0", "compressed by xz", COMPRESSED),
    OtherFormat(0, b"\x28\xb5\x2f\xfd", "compressed by zstd", COMPRESSED),
    OtherFormat(0, b"BZh", "compressed by bzip2", COMPRESSED),
    OtherFormat(0, b"PK\x03\x04", "a zip archive", COMPRESSED),
    OtherFormat(257, b"ustar", "a tar archive", NO_LAYER),
    OtherFormat(0, b"070701", "a cpio archive", NO_LAYER),
    OtherFormat(0, b"XFSB", "an xfs file system", NO_LAYER),
    OtherFormat(65600, b"_BHRfS_M", "a btrfs file system", NO_LAYER),
    OtherFormat(32769, b"CD001", "an ISO 9660 image", NO_LAYER),
    OtherFormat(54, b"FAT1", "a FAT file system", NO_LAYER),
    OtherFormat(82, b"FAT32", "a FAT file system", NO_LAYER),
    OtherFormat(0, b"\x7fELF", "a program", NO_LAYER),
    OtherFormat(0, b"sqsh", "a squashfs of a big-endian machine", NO_LAYER),
    # After the boot sectors of file systems, which end with the same two bytes.
    OtherFormat(510, b"\x55\xaa", "a disk with an MBR partition table", OF_A_DISK),
)
PAGES = (b"<!doctype", b"<html", b"<?xml")
PAGE_HINT = "the server sent it in place of the file: open the URL in a browser"


def format_of(head: bytes) -> ReadyFormat | None:
    """The file system that begins with these bytes; None if it is none that a layer may have."""
    for offset, mark, name in FORMATS:
        if head[offset : offset + len(mark)] == mark:
            return name
    return None


def described(head: bytes) -> tuple[str, str]:
    """What a file is that is no layer, in words, and what to do."""
    for offset, mark, name, hint in OTHERS:
        if head[offset : offset + len(mark)] == mark:
            return name, hint
    if head.lstrip()[:9].lower().startswith(PAGES):
        return "a page of HTML or XML", PAGE_HINT
    if not head.strip(b"\0"):
        return "empty, or zeros at its beginning", NO_LAYER
    return "of an unknown format", NO_LAYER
