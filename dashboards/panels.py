"""The few kinds of panels that our dashboards are made of, each with one look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from grafana_foundation_sdk.builders import (
    common as common_builders,
    dashboard as frame,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common, dashboard, prometheus as queries

SOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
THIRD, HALF, WHOLE = 8, 12, 24
"""Widths; a dashboard is 24 wide."""
GREEN, BLUE, YELLOW, ORANGE, RED, GREY = "green", "blue", "yellow", "orange", "red", "#8e8e8e"

Panel = Builder[dashboard.Panel]
Query = prometheus.Dataquery


def query(expr: str, legend: str = "__auto") -> Query:
    """A query over the time shown."""
    return prometheus.Dataquery().expr(expr).legend_format(legend).range()


def newest(expr: str, ref_id: str) -> Query:
    """A query for the newest values, as rows of a table."""
    form = queries.PromQueryFormat.TABLE
    return prometheus.Dataquery().expr(expr).ref_id(ref_id).format(form).instant()


def number(title: str, about: str, expr: str, *, bad: str = "", unit: str = "short") -> Panel:
    """One number in a box; with `bad` it takes that colour from 1 on."""
    steps = [dashboard.Threshold(color=GREEN if bad else BLUE, value=None)]
    if bad:
        steps.append(dashboard.Threshold(color=bad, value=1))
    return (
        stat.Panel().title(title).description(about).datasource(SOURCE).span(3).height(4)
        .unit(unit)
        .with_target(query(expr, title).ref_id("A"))
        .thresholds(frame.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps))
        .graph_mode(common.BigValueGraphMode.AREA if bad else common.BigValueGraphMode.NONE)
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
    )  # fmt: skip


def lines(
    title: str, about: str, asked: Sequence[Query], *,
    unit: str = "short", width: int = HALF, stacked: bool = False, colors: Mapping[str, str] | None = None,
) -> Panel:  # fmt: skip
    """Values over time; stacked ones are drawn as bars, for they are counts of what happened."""
    panel = (
        timeseries.Panel().title(title).description(about).datasource(SOURCE)
        .span(width).height(8).unit(unit).min(0)
        .targets(list(_lettered(asked)))
        .legend(_legend())
        .tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
        .show_points(common.VisibilityMode.NEVER)
    )  # fmt: skip
    if stacked:
        panel = (
            panel.interval("1m").draw_style(common.GraphDrawStyle.BARS).fill_opacity(70).line_width(0)
            .stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))
        )  # fmt: skip
    else:
        panel = panel.fill_opacity(8).line_width(2)
    for name, color in (colors or {}).items():
        panel = panel.override_by_name(name, [_fixed(color)])
    return panel


def states(
    title: str, about: str, expr: str, legend: str, words: Mapping[int, tuple[str, str]],
    *, width: int = WHOLE, height: int = 9,
) -> Panel:  # fmt: skip
    """A coloured band for each subject: which of these states it was in, and when."""
    results = {
        str(value): dashboard.ValueMappingResult(text=text, color=color, index=value)
        for value, (text, color) in words.items()
    }
    return (
        statetimeline.Panel().title(title).description(about).datasource(SOURCE)
        .span(width).height(height)
        .with_target(query(expr, legend).ref_id("A"))
        .mappings([dashboard.ValueMap(options=results)])
        .merge_values(True)  # noqa: FBT003 - the SDK's own signature
        .show_value(common.VisibilityMode.NEVER).fill_opacity(80).line_width(1)
        .legend(_legend())
    )  # fmt: skip


def heat(title: str, about: str, expr: str, *, width: int = HALF) -> Panel:
    """How a duration was spread, over time, from a histogram's buckets."""
    asked = query(expr, "{{le}}").ref_id("A").format(queries.PromQueryFormat.HEATMAP)
    return (
        heatmap.Panel().title(title).description(about).datasource(SOURCE).span(width).height(8)
        .with_target(asked)
        .calculate(False)  # noqa: FBT003 - the SDK's own signature
        .scale_distribution(common_builders.ScaleDistributionConfig().type(common.ScaleDistribution.LINEAR))
        .y_axis(heatmap.YAxisConfig().unit("s"))
        .color(heatmap.HeatmapColorOptions().scheme("Oranges").steps(64))
    )  # fmt: skip


def rows(
    title: str, about: str, asked: Mapping[str, str], names: Mapping[str, str],
    *, hidden: Sequence[str] = (), cells: Mapping[str, Sequence[dashboard.DynamicConfigValue]] | None = None,
    height: int = 10,
) -> Panel:  # fmt: skip
    """A table: one query a column of numbers, joined by the labels they share."""
    dropped = {"Time": True, "__name__": True, "job": True} | dict.fromkeys(hidden, True)
    order = {name: place for place, name in enumerate(names)}
    transformations: list[tuple[str, Any]] = [
        ("merge", {}),
        ("organize", {"excludeByName": dropped, "renameByName": dict(names), "indexByName": order}),
    ]
    panel = (
        table.Panel().title(title).description(about).datasource(SOURCE).span(WHOLE).height(height)
        .show_header(True)  # noqa: FBT003 - the SDK's own signature
        .targets([newest(expr, ref_id) for ref_id, expr in asked.items()])
        .transformations([
            dashboard.DataTransformerConfig(id_val=name, options=options)
            for name, options in transformations
        ])
    )  # fmt: skip
    for name, properties in (cells or {}).items():
        panel = panel.override_by_name(name, list(properties))
    return panel


def words(meanings: Mapping[int, tuple[str, str]]) -> list[dashboard.DynamicConfigValue]:
    """Cells that show a word in its colour instead of a number."""
    options = {
        str(value): {"text": text, "color": color, "index": place}
        for place, (value, (text, color)) in enumerate(meanings.items())
    }
    mapping = [{"type": "value", "options": options}]
    return [
        dashboard.DynamicConfigValue(id_val="mappings", value=mapping),
        dashboard.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"}),
    ]


def unit(name: str) -> list[dashboard.DynamicConfigValue]:
    return [dashboard.DynamicConfigValue(id_val="unit", value=name)]


def leads_to(uid: str, variable: str) -> list[dashboard.DynamicConfigValue]:
    """Cells that link to another dashboard, with their text as one of its variables."""
    link = {
        "title": f"Show this {variable}",
        "url": f"/d/{uid}?var-{variable}=${{__value.text}}&${{datasource:queryparam}}&${{__url_time_range}}",
    }
    return [dashboard.DynamicConfigValue(id_val="links", value=[link])]


def _lettered(asked: Sequence[Query]) -> list[Query]:
    return [one.ref_id(chr(ord("A") + place)) for place, one in enumerate(asked)]


def _legend() -> common_builders.VizLegendOptions:
    return (
        common_builders.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
        .show_legend(True)  # noqa: FBT003 - the SDK's own signature
    )


def _fixed(color: str) -> dashboard.DynamicConfigValue:
    value = {"mode": "fixed", "fixedColor": color}
    return dashboard.DynamicConfigValue(id_val="color", value=value)
