"""The answers of a VM's checks over time: a small drawing, its summary in words, and a table."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence

from reconciler.control.page.badges import BAD, CALM, GOOD, badge
from reconciler.control.page.html import Html, h, join, moment
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


def chart(rounds: Sequence[ProbeStatus]) -> Html:
    title = h("h2", "Checks over time")
    if not rounds:
        nothing = h("p", "No check was answered since the daemon started.", class_="empty")
        return h("section", title, nothing, id="checks")
    summary = h("p", _summary(rounds))
    return h("section", title, _drawing(rounds), summary, _table(rounds), id="checks")


def _summary(rounds: Sequence[ProbeStatus]) -> Html:
    """What the drawing shows, for those who do not see it, too."""
    counts = Counter(one.result for one in rounds)
    told = [f"{counts[result]} {word}" for result, (word, _) in WORDS.items() if counts[result]]
    passed = [one.seconds for one in rounds if one.result == "success"]
    slowest = f"; the slowest that passed took {span(max(passed))}" if passed else ""
    generations = sorted({one.generation for one in rounds})
    of = ", ".join(map(str, generations))
    plural = "generation" if len(generations) == 1 else "generations"
    return join([
        f"{', '.join(told)} of the newest {len(rounds)} answers, from ", moment(rounds[0].wall),
        " to ", moment(rounds[-1].wall), f", of {plural} {of}{slowest}.",
    ])  # fmt: skip


def _drawing(rounds: Sequence[ProbeStatus]) -> Html:
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
    drawn = [h("path", d="".join(paths), class_=result) for result, paths in bars.items() if paths]
    if borders:
        drawn.append(h("path", d="".join(borders), class_="border"))
    return h(
        "svg",
        h("title", "Answers of the checks, oldest on the left", id="checks-title"),
        h("desc", "Up: passed, the taller the slower. Down: failed. A dashed line: another generation.",
          id="checks-desc"),
        h("path", d=f"M0 {BASE}H{WIDTH}", class_="base"),
        *drawn,
        viewBox=f"0 0 {WIDTH} {HEIGHT}", preserveAspectRatio="none", class_="chart", role="img",
        aria_labelledby="checks-title", aria_describedby="checks-desc",
    )  # fmt: skip


def _bar(one: ProbeStatus) -> str:
    match one.result:
        case "success":
            share = min(1.0, math.log10(max(one.seconds * 1000, 1.0)) / DECADES)
            return f"{BASE - 1}V{BASE - 4 - (TALLEST - 4) * share:.1f}"
        case "failure":
            return f"{BASE + 1}v{FAILED}"
        case _:
            return f"{BASE + 1}v{NOT_ASKED}"


def _table(rounds: Sequence[ProbeStatus]) -> Html:
    heads = [h("th", name, scope="col") for name in ("When", "Answer", "Took", "Generation")]
    rows = [
        h(
            "tr",
            h("th", moment(one.wall), scope="row", data_label="When"),
            h("td", badge(*WORDS[one.result]), data_label="Answer"),
            h("td", span(one.seconds), data_label="Took"),
            h("td", one.generation, data_label="Generation"),
        )
        for one in rounds[: -MOST_ROWS - 1 : -1]
    ]
    table = h("table", h("thead", h("tr", *heads)), h("tbody", *rows))
    summary = h("summary", f"The newest {len(rows)} as a table")
    return h("details", summary, table, id="checks-table")


def span(seconds: float) -> str:
    """A short time for people."""
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{max(seconds * 1000, 0.1):.{0 if seconds >= HUNDREDTH else 1}f} ms"
