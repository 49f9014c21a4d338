"""Figures as values: percentiles, ratios to a yardstick, and the table and JSON of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.table import Table

PER_MILLE = 1000.0


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured. `quick` shows that a measure works; its figures mean little."""

    quick: bool = False

    def pick(self, full: int, quick: int) -> int:
        return quick if self.quick else full


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. `value`, `target` and `yardstick` are in `unit`."""

    name: str
    value: float
    unit: str
    yardstick: float
    beside: str
    """What the yardstick is."""
    target: float | None = None
    target_ratio: float | None = None
    """Where the ratio, and not the value, is what was promised."""
    spread: str = ""
    note: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        return self.value / self.yardstick if self.yardstick else math.nan

    @property
    def met(self) -> bool | None:
        """Whether the target was reached; None where there is none."""
        if self.target_ratio is not None:
            return self.ratio <= self.target_ratio
        return None if self.target is None else self.value <= self.target

    def plain(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": self.ratio, "met": self.met}


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of all are not above (nearest rank)."""
    if not values:
        raise ValueError("no values, no percentile")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def median(values: Sequence[float]) -> float:
    """The middle one; of an even number the mean of both."""
    ordered = sorted(values)
    half = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[half]
    return (ordered[half - 1] + ordered[half]) / 2


def spread_of(values: Sequence[float], unit: str) -> str:
    """Least, middle and most, and of how many."""
    least, middle, most = (amount(v, unit) for v in (min(values), median(values), max(values)))
    return f"{least} / {middle} / {most}, n={len(values)}"


def ms(seconds: Sequence[float]) -> list[float]:
    return [one * PER_MILLE for one in seconds]


def amount(value: float, unit: str) -> str:
    """Three digits that count, as people read them."""
    if math.isnan(value):
        return "-"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f} {unit}".strip()


def target_of(figure: Figure) -> str:
    if figure.target_ratio is not None:
        return f"ratio <= {figure.target_ratio:.2f}"
    return "-" if figure.target is None else f"<= {amount(figure.target, figure.unit)}"


VERDICTS = {True: "[green]met[/]", False: "[red]missed[/]", None: "-"}


def table_of(figures: Sequence[Figure]) -> Table:
    table = Table(title="Figures", title_justify="left", expand=False)
    for title in ("measure", "figure", "target", "", "beside", "ratio", "least / median / most"):
        right = title in ("figure", "target", "ratio")
        table.add_column(title, justify="right" if right else "left", overflow="fold")
    for one in figures:
        table.add_row(
            one.name,
            amount(one.value, one.unit),
            target_of(one),
            VERDICTS[one.met],
            f"{amount(one.yardstick, one.unit)}: {one.beside}" if one.beside else "-",
            amount(one.ratio, ""),
            one.spread,
        )
    return table
