"""The answers of a VM's checks over time: a small drawing, its summary in words, and a table."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from reconciler.control.page.rendering import BAD, CALM, GOOD, macro
from reconciler.model.health import ProbeResult
from reconciler.model.status import ProbeStatus

WIDTH, BASE, HEIGHT = 600, 64, 88
"""Units of the drawing: answers stand on the base line, and what failed hangs below it."""
TALLEST, FAILED, NOT_ASKED = 58, 20, 9
DECADES = 4.0
"""A bar grows with the logarithm of the time: from 1 ms to 10 s."""
HUNDREDTH = 0.01
LATELY = 4
"""Answers within which a generation is not a new one: two may be asked in turns, in a handover."""
MOST_ROWS = 20
WORDS: dict[ProbeResult, tuple[str, str]] = {
    "success": ("passed", GOOD),
    "failure": ("failed", BAD),
    "error": ("not asked", CALM),
}


@dataclass(frozen=True, slots=True)
class ChartPaths:
    """Paths of an SVG, by the class that the style sheet colours."""

    paths: Sequence[tuple[str, str]] = ()
    width: int = WIDTH
    height: int = HEIGHT
    base: int = BASE


def chart(rounds: Sequence[ProbeStatus]) -> Markup:
    """The section about a VM's checks, from `rounds` with the oldest first."""
    results = Counter(one.result for one in rounds)
    counts = [(results[one], word) for one, (word, _) in WORDS.items() if results[one]]
    passed = [one.seconds for one in rounds if one.result == "success"]
    generations = sorted({one.generation for one in rounds})
    rows = [
        (one.wall, *WORDS[one.result], span(one.seconds), one.generation)
        for one in rounds[: -MOST_ROWS - 1 : -1]
    ]
    drawing = _drawing(rounds) if rounds else ChartPaths()
    slowest = span(max(passed)) if passed else ""
    return macro("chart.html", "chart", drawing, rounds, counts, generations, slowest, rows)


def _drawing(rounds: Sequence[ProbeStatus]) -> ChartPaths:
    begin = rounds[0].wall
    length = max(rounds[-1].wall - begin, 1.0)
    bars: dict[str, list[str]] = {result: [] for result in WORDS}
    borders: list[str] = []
    lately = deque((rounds[0].generation,), maxlen=LATELY)
    for one in rounds:
        x = f"{4 + (WIDTH - 8) * (one.wall - begin) / length:.1f}"
        if one.generation not in lately:
            borders.append(f"M{x} 0V{HEIGHT}")
        lately.append(one.generation)
        bars[one.result].append(f"M{x} {_bar(one)}")
    drawn = {**bars, "border": borders}
    return ChartPaths([(kind, "".join(paths)) for kind, paths in drawn.items() if paths])


def _bar(one: ProbeStatus) -> str:
    match one.result:
        case "success":
            share = min(1.0, math.log10(max(one.seconds * 1000, 1.0)) / DECADES)
            return f"{BASE - 1}V{BASE - 4 - (TALLEST - 4) * share:.1f}"
        case "failure":
            return f"{BASE + 1}v{FAILED}"
        case _:
            return f"{BASE + 1}v{NOT_ASKED}"


def span(seconds: float) -> str:
    """A short time for people."""
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{max(seconds * 1000, 0.1):.{0 if seconds >= HUNDREDTH else 1}f} ms"
