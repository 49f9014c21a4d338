"""What the header of a qcow2 image names beyond itself: read here, before any program follows it.

Pure. Offsets and bits are those of the format's specification, `docs/interop/qcow2.txt`.
"""

from __future__ import annotations

import struct

MAGIC = b"QFI\xfb"
HEADER_BYTES = 104
"""Of version 3, without extensions."""
_VERSION_2 = struct.Struct(">4sIQIIQI")
"""Magic, version, offset and size of the backing file's name, cluster bits, virtual size, encryption."""
_FEATURES = struct.Struct(">Q")
_FEATURES_AT = 72
DIRTY, CORRUPT, EXTERNAL_DATA, COMPRESSION, SUBCLUSTERS = (1 << bit for bit in range(5))
"""Incompatible features: a reader that does not know one of them must not read the image."""
HARMLESS = DIRTY | COMPRESSION | SUBCLUSTERS


def refusal(head: bytes) -> str:
    """Why an image with these first bytes is not read, after its name; empty: it may be.

    head: at least the first 104 bytes, or all of a shorter file.
    """
    if not head.startswith(MAGIC):
        return "is no qcow2 image"
    if len(head) < HEADER_BYTES:
        return "is cut off in its header"
    _, version, backing, _, _, _, encryption = _VERSION_2.unpack_from(head)
    if version not in (2, 3):
        return f"has version {version} of qcow2, which is not known"
    if backing:
        return "has a backing file"
    if encryption:
        return "is encrypted"
    features = _FEATURES.unpack_from(head, _FEATURES_AT)[0] if version > 2 else 0  # noqa: PLR2004
    if features & EXTERNAL_DATA:
        return "keeps its data in another file"
    if features & CORRUPT:
        return "is marked as corrupt"
    if features & ~HARMLESS:
        return f"has features that are not known ({features:#x})"
    return ""
