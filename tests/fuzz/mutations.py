"""Inputs without a fuzzer: seeds that are cut, joined and changed, the same for the same random numbers."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

MOST_CHANGES = 6
LONGEST = 4096


def inputs(
    draw: random.Random, seeds: Sequence[bytes], words: Sequence[str], runs: int
) -> Iterator[bytes]:
    pieces = [word.encode("utf-8", "surrogatepass") for word in words]
    for _ in range(runs):
        data = draw.choice(seeds)
        for _ in range(draw.randrange(MOST_CHANGES)):
            data = changed(draw, data, seeds, pieces)
        yield data[:LONGEST]


def changed(
    draw: random.Random, data: bytes, seeds: Sequence[bytes], pieces: Sequence[bytes]
) -> bytes:
    at, end = sorted((draw.randrange(len(data) + 1), draw.randrange(len(data) + 1)))
    match draw.randrange(6):
        case 0:
            return data[:at] + draw.choice(pieces) + data[at:]
        case 1:
            return data[:at] + data[end:]
        case 2:
            return data[:at] + draw.randbytes(draw.randrange(1, 5)) + data[at:]
        case 3:
            return data[:end] + data[at:]
        case 4:
            other = draw.choice(seeds)
            return data[:at] + other[draw.randrange(len(other) + 1) :]
        case _:
            return data[:at] + draw.choice(pieces) + data[end:]
