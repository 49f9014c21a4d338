"""The header of a qcow2: what names other files is refused before a program opens it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, strategies as st

from reconciler.image import qcow2_header


def header(
    *, magic: bytes = b"QFI\xfb", version: int = 3, backing: int = 0, encryption: int = 0,
    features: int = 0,
) -> bytes:  # fmt: skip
    head = struct.pack(">4sIQIIQI", magic, version, backing, 0, 16, 1 << 30, encryption)
    return head.ljust(72, b"\0") + struct.pack(">Q", features) + bytes(24)


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (header(), ""),
        (header(version=2, features=1 << 63), ""),  # version 2 has other bytes there
        (header(features=0b11001), ""),
        (header(backing=512), "has a backing file"),
        (header(version=2, backing=512), "has a backing file"),
        (header(encryption=2), "is encrypted"),
        (header(features=0b100), "keeps its data in another file"),
        (header(features=0b10), "is marked as corrupt"),
        (header(features=1 << 5), "has features that are not known (0x20)"),
        (header(version=1), "has version 1 of qcow2, which is not known"),
        (header(magic=b"KDMV"), "is no qcow2 image"),
        (header()[:100], "is cut off in its header"),
        (b"", "is no qcow2 image"),
    ],
)
def test_a_header_is_refused_for_what_it_says(head: bytes, why: str) -> None:
    assert qcow2_header.refusal(head) == why


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader_and_those_after_the_magic_are_judged(rest: bytes) -> None:
    found = qcow2_header.refusal(qcow2_header.MAGIC + rest)
    if len(rest) + 4 < qcow2_header.HEADER_BYTES:
        assert found == "is cut off in its header"
    elif any(rest[4:12]):
        assert found
