"""The text format of Prometheus, for series that are written at every scrape.

Written by hand and not through the client library's sample objects: for 1,000 VMs these are 23,000
lines, and an object for each takes several times as long as its line. See docs/decisions/0040.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def family(name: str, kind: str, text: str, series: Iterable[str]) -> Iterator[str]:
    """One metric, line by line: its head, then its series.

    `name` lacks the prefix `reconciler_`; `kind` is counter or gauge; each of `series` begins with `{`,
    or with a space if it has no labels.
    """
    yield f"# HELP reconciler_{name} {text}"
    yield f"# TYPE reconciler_{name} {kind}"
    full = f"reconciler_{name}"
    for one in series:
        yield full + one


def quoted(value: str) -> str:
    """A label's value in quotes. Names are harmless by their pattern; reasons and commits may not be."""
    if '"' in value or "\\" in value or "\n" in value:
        value = value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return f'"{value}"'.encode("utf-8", "replace").decode()


def state_set(labels: Iterable[tuple[str, str]], label: str, states: tuple[str, ...]) -> list[str]:
    """A series for each subject and state, 1 for the present state: sums and averages then mean something.

    `labels`: for each subject its labels as text, and its present state.
    """
    tails = [(state, f',{label}="{state}"}} ') for state in states]
    return [
        f"{{{subject}{tail}{1 if present == state else 0}"
        for subject, present in labels
        for state, tail in tails
    ]


def text_of(lines: list[str], *, openmetrics: bool) -> bytes:
    """The lines as the exposition format 0.0.4, or as OpenMetrics without its end."""
    if openmetrics:  # there a counter is announced without its ending
        lines = [
            line.replace("_total ", " ", 1) if line.startswith(("# HELP", "# TYPE")) else line
            for line in lines
        ]
    return "\n".join([*lines, ""]).encode()
