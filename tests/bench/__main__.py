"""`./dev bench [NAME...] [--json FILE] [--quick]`: measures, and prints figures beside their targets."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.bench import (
    boots,
    commits,
    handover,
    images,
    many,
    oci_update,
    page,
    passes,
    pushes,
    restarts,
    scrapes,
    update,
)
from tests.bench.figures import Figure, Scale, table_of
from tests.bench.machine import load, machine

Measure = Callable[[Scale], list[Figure]]

MEASURES: dict[str, Measure] = {
    "update": update.measure,
    "handover": handover.measure,
    "push": pushes.measure,
    "restart": restarts.measure,
    "idle": passes.measure,
    "commit": commits.measure,
    "fleet": many.measure,
    "boot": boots.measure,
    "page": page.measure,
    "scrape": scrapes.measure,
    "images": images.measure,
    "oci-update": oci_update.measure,
}


def main() -> int:
    given = parse()
    logging.getLogger("reconciler").setLevel(logging.CRITICAL)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    console = Console(soft_wrap=not sys.stdout.isatty())
    facts = machine() | {"command": " ".join(["./dev bench", *sys.argv[1:]])}
    figures: list[Figure] = []
    failed: list[str] = []
    runs: dict[str, Any] = {}
    for name in given.names:
        found = run(name, Scale(given.quick), console, runs)
        figures += found or []
        failed += [] if found else [name]
    console.print(table_of(figures), highlight=False)
    notes(console, figures)
    console.print(", ".join(f"{key} {value}" for key, value in facts.items()), highlight=False)
    if given.json:
        whole = {"machine": facts, "quick": given.quick, "runs": runs}
        whole["figures"] = [figure.plain() for figure in figures]
        given.json.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    if failed:
        console.print(f"not measured: {', '.join(failed)}", style="red")
    return 1 if failed else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev bench", description="measure, on this machine")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(MEASURES)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there too")
    parser.add_argument(
        "--quick", action="store_true", help="few repetitions: shows that it works, no more"
    )
    given = parser.parse_args()
    unknown = [name for name in given.names if name not in MEASURES]
    if unknown:
        parser.error(f"no such measure: {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    given.names = given.names or list(MEASURES)
    return given


def run(name: str, scale: Scale, console: Console, runs: dict[str, Any]) -> list[Figure]:
    """The figures of one measure; none when it failed, which it says itself."""
    before, began = load(), time.monotonic()
    console.print(f"{name} ... ", end="")
    try:
        figures = MEASURES[name](scale)
    except Exception:  # noqa: BLE001 - the other measures are still worth having
        console.print("failed", style="red")
        console.print(traceback.format_exc(), highlight=False, markup=False)
        return []
    seconds = time.monotonic() - began
    console.print(f"{seconds:.0f} s, load {before} -> {load()}", highlight=False)
    runs[name] = {"seconds": round(seconds, 1), "load_before": before, "load_after": load()}
    return figures


def notes(console: Console, figures: Sequence[Figure]) -> None:
    for figure in figures:
        if figure.note:
            console.print(f"{figure.name}: {figure.note}", highlight=False, markup=False)
        for key, value in figure.details.items():
            console.print(f"    {key}: {value}", highlight=False, markup=False)


if __name__ == "__main__":
    sys.exit(main())
