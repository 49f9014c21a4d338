"""Strangers' bytes where people read them, and in the two headers that decide who may read: by the million.

    python -m tests.fuzz.strangers [RUNS] [SEED]

Each input is a console's, an event's and a page's text, an `Authorization` and a `Host` header. Nothing that acts
unseen may reach a reader, no credential that was not given may open anything, and no foreign name is this host's.
"""

from __future__ import annotations

import random
import re
import sys
import time
from collections.abc import Iterator

from reconciler.children.program import Ended
from reconciler.control.access import Access
from reconciler.control.error_responses import UnauthorizedError
from reconciler.control.guard import is_known, known_names
from reconciler.control.page.rendering import short
from reconciler.notify.message import LONGEST_TEXT, plain
from reconciler.safe_text import UNSAFE, UNSAFE_IN_LINES, clean, clean_console_line, clean_lines

LONGEST, MOST_SECONDS = 2048, 1.0
ACCESS = Access(b"k" * 32, lambda: 0.0, "an acting token of some length", delay=0.0)
SESSION = ACCESS.begin("act")
GIVEN = {ACCESS.token("read"), ACCESS.token("metrics"), "an acting token of some length", SESSION}
NAMES = known_names(["fleet.example.org"])
ADDRESS = re.compile(r"[0-9.]+|\[[0-9A-Fa-f:.]+\]")
PIECES = tuple(
    piece.encode("utf-8", "surrogatepass")
    for piece in (
        "\x1b[", "\x1b]0;", "\x1b", "\x9b", "\x9d", "\x07", "\x1b\\", "0;31m", "\r", "\n", "\r\n", "\t", "\x00", "\x7f",
        "\u200b", "\u202e", "\u2066", "\ufeff", "\u3164", "\U000e0041", "\ud800", "<script>", "\"'&<>", "web",
        "Bearer ", "Basic ", "act.", "read.", ".9999999999.", "=", ":", SESSION, *sorted(GIVEN), "dXNlcjo=",
        "localhost", "127.0.0.1", "[::1]", ":9188", "fleet.example.org", ".attacker.example", "@", "1" * 20, "é",
    )
)  # fmt: skip


def inputs(runs: int, seed: int) -> Iterator[bytes]:
    draw = random.Random(seed)  # noqa: S311 - for tests
    for _ in range(runs):
        parts = [
            draw.choice(PIECES) if draw.random() < 0.7 else draw.randbytes(draw.randrange(1, 9))
            for _ in range(draw.randrange(1, 12))
        ]
        data = b"".join(parts)
        if draw.random() < 0.1:
            at = draw.randrange(len(data))
            data = data[:at] + bytes([draw.randrange(256)]) + data[at + 1 :]
        yield data[:LONGEST] * (draw.randrange(1, 200) if draw.random() < 0.001 else 1)


def take(data: bytes) -> None:
    """Raises AssertionError."""
    began = time.monotonic()
    shown(data)
    headers(data.decode("utf-8", "surrogateescape"))
    taken = time.monotonic() - began
    assert taken < MOST_SECONDS, f"{len(data)} bytes took {taken:.1f} s"


def shown(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for line in (clean(text), clean_console_line(data), plain(text)):
        assert not UNSAFE.search(line), (text, line)
    assert len(plain(text)) <= LONGEST_TEXT
    inside = short(text)  # in an attribute, and as a text
    for several in (clean_lines(text), inside, Ended(1, data).tail):
        assert not UNSAFE_IN_LINES.search(several), (text, several)
    assert inside.count("<") == 2, (text, inside)
    assert clean(clean(text)) == clean(text)


def headers(text: str) -> None:
    header = re.sub(r"[\x00-\x1f\x7f]", "", text).strip()
    try:
        right = ACCESS.right_of_header(header)
    except UnauthorizedError:
        right = None
    if right is not None:
        scheme, _, given = header.partition(" ")
        assert scheme.lower() == "basic" or given.strip() in GIVEN, header
    host = text.rpartition(":")[0] if re.search(r":[0-9]{1,5}$", text) else text
    if is_known(text, NAMES):
        assert host.lower() in NAMES or ADDRESS.fullmatch(host), text


def main(runs: int, seed: int) -> None:
    """Raises AssertionError with the input."""
    for data in inputs(runs, seed):
        try:
            take(data)
        except Exception as error:
            raise AssertionError(f"{data!r}: {error}") from error


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    main(*(given + [1_000_000, 1][len(given) :]))
