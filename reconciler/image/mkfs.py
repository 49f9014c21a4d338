"""A folder as a store image: the argv that gives the same bytes for the same content."""

from __future__ import annotations

FIXED_UUID = "7265636f-6e63-4c69-8572-000000000001"
"""Any fixed one will do: layers are found by the serial of their disk."""
COMPRESS_FROM_BYTES = 32 * 1024 * 1024
"""Below this, unpacking costs a guest more than reading: small layers stay plain in erofs."""
MAGICS = {"erofs": (1024, b"\xe2\xe1\xf5\xe0"), "squashfs": (0, b"hsqs")}


def mkfs_argv(store_format: str, image: str, folder: str, content_bytes: int) -> tuple[str, ...]:
    """The argv that makes `image` of `folder`; both paths are absolute."""
    if store_format == "squashfs":
        # fmt: off
        return (
            "mksquashfs", folder, image, "-noappend", "-quiet", "-no-progress",
            "-reproducible", "-mkfs-time", "0", "-all-time", "0", "-all-root", "-no-xattrs",
            "-comp", "zstd", "-Xcompression-level", "3", "-mem", "256M", "-processors", "2",
        )
        # fmt: on
    compressed = ("-zlz4",) if content_bytes >= COMPRESS_FROM_BYTES else ()
    # -x-1: extended attributes of the host's file system must not get in.
    # fmt: off
    return (
        "mkfs.erofs", "-T0", "-U", FIXED_UUID, "--all-root", "-x-1", "--quiet",
        *compressed, image, folder,
    )
    # fmt: on


def has_magic(store_format: str, head: bytes) -> bool:
    """Whether an image's first bytes are those of its format."""
    offset, magic = MAGICS[store_format]
    return head[offset : offset + len(magic)] == magic
