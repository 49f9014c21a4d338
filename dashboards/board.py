"""What all dashboards share: variables, links to one another, and marks of what happened."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from grafana_foundation_sdk.builders import dashboard as frame
from grafana_foundation_sdk.models import dashboard

from dashboards.panels import SOURCE, WHOLE, Panel

TAG = "microvm-reconciler"
HERE = 'instance=~"$instance"'
"""What every selector has: the hosts that are chosen above the panels."""

Row = tuple[str, Sequence[Panel]]


def choice(name: str, label: str, values: str) -> frame.QueryVariable:
    """A list of a label's values, several of which may be chosen; all of them at first."""
    everything = dashboard.VariableOption(text="All", value="$__all", selected=True)
    return (
        frame.QueryVariable(name).label(label).datasource(SOURCE)
        .query({"query": values, "refId": name})
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
        .multi(True).include_all(True).all_value(".*").current(everything)  # noqa: FBT003
    )  # fmt: skip


INSTANCE = choice("instance", "host", "label_values(reconciler_build_info, instance)")
GROUP = choice("group", "group", f"label_values(reconciler_vm_info{{{HERE}}}, group)")
VM = choice("vm", "VM", f'label_values(reconciler_vm_info{{{HERE},group=~"$group"}}, vm)')

ROLLED_BACK = (
    f"sum by (instance, group, reason) (increase(reconciler_rollbacks_total{{{HERE}}}[2m])) > 0"
)
COMMITTED = f"changes(reconciler_vm_last_good_generation{{{HERE}}}[2m]) > 0"


def mark(name: str, expr: str, color: str, text: str, tags: str) -> frame.AnnotationQuery:
    """A line across all panels where this query has a value."""
    built = _Mark(expr, text, tags)
    built.name(name).datasource(SOURCE).enable(True).icon_color(color)  # noqa: FBT003
    return built


class _Mark(frame.AnnotationQuery):
    """An annotation from Prometheus, with the fields of that data source, which the SDK has not."""

    def __init__(self, expr: str, text: str, tags: str) -> None:
        super().__init__()
        self._internal = _PrometheusMark(expr, text, tags)


class _PrometheusMark(dashboard.AnnotationQuery):
    def __init__(self, expr: str, text: str, tags: str) -> None:
        super().__init__(expr=expr)
        self._more = {"titleFormat": text, "tagKeys": tags, "step": "60s"}

    def to_json(self) -> dict[str, object]:
        return super().to_json() | self._more


MARKS = (
    mark(
        "Rollbacks",
        ROLLED_BACK,
        "red",
        "rolled back: {{group}} {{reason}}",
        "instance,group,reason",
    ),
    mark("Committed", COMMITTED, "green", "{{vm}}: a generation was committed", "instance,vm"),
)


def board(
    uid: str, title: str, about: str, rows: Sequence[Row],
    *, variables: Sequence[frame.QueryVariable] = (INSTANCE,),
) -> dashboard.Dashboard:  # fmt: skip
    """A dashboard; its panels stand in rows in the order given."""
    built = (
        frame.Dashboard(f"microVM reconciler / {title}")
        .uid(f"{TAG}-{uid}").description(about).tags([TAG])
        .readonly().refresh("30s").time("now-6h", "now").timezone("browser")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .with_variable(frame.DatasourceVariable("datasource").label("data source").type("prometheus"))
        .link(
            frame.DashboardLink("microVM reconciler").type(dashboard.DashboardLinkType.DASHBOARDS)
            .tags([TAG]).as_dropdown(True).include_vars(True).keep_time(True)  # noqa: FBT003
        )
    )  # fmt: skip
    for variable in variables:
        built = built.with_variable(variable)
    for one in MARKS:
        built = built.annotation(one)
    for name, panels in rows:
        built = built.with_row(frame.Row(name))
        for panel in panels:
            built = built.with_panel(panel)
    return _laid_out(built.build())


def _laid_out(built: dashboard.Dashboard) -> dashboard.Dashboard:
    """Ids that stay, or links to a panel break; and places from left to right, line by line."""
    shown = built.panels or []
    for number, panel in enumerate(shown, 1):
        panel.id_val = number
    numbers = 0
    x = y = tallest = 0
    for place, panel in enumerate(shown):
        size = panel.grid_pos or dashboard.GridPos(h=1, w=WHOLE)
        if isinstance(panel, dashboard.Panel) and panel.type_val == "stat":
            numbers = numbers or _run_of_numbers(shown[place:])
            size.w = WHOLE // numbers
        else:
            numbers = 0
        if x + size.w > WHOLE or isinstance(panel, dashboard.RowPanel):
            x, y, tallest = 0, y + tallest, 0
        panel.grid_pos = dashboard.GridPos(h=size.h, w=size.w, x=x, y=y)
        x, tallest = x + size.w, max(tallest, size.h)
    return built


def _run_of_numbers(shown: Sequence[dashboard.Panel | dashboard.RowPanel]) -> int:
    """How many boxes with numbers stand side by side here: they share the width."""
    run = itertools.takewhile(
        lambda one: isinstance(one, dashboard.Panel) and one.type_val == "stat", shown
    )
    return len(list(run))
