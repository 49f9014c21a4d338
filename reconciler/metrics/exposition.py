"""The words of the exposition format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def family(name: str, kind: str, text: str, series: Iterable[str]) -> Iterator[str]:
    """One metric: its head, then its series, which begin with `{` or with a space."""
    yield f"# HELP reconciler_{name} {text}"
    yield f"# TYPE reconciler_{name} {kind}"
    full = f"reconciler_{name}"
    for one in series:
        yield full + one


def quoted(value: str) -> str:
    """A label's value. Names are harmless by their pattern; reasons and commits may not be."""
    if '"' in value or "\\" in value or "\n" in value:
        value = value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return f'"{value}"'.encode("utf-8", "replace").decode()
