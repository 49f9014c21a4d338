"""The dashboard `controller`: whether the daemon itself is healthy."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.board import HERE, board
from dashboards.panels import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    YELLOW,
    Panel,
    lines,
    number,
    query,
    rows,
    unit,
)  # fmt: skip

OLDEST = f"reconciler_operation_oldest_timestamp_seconds{{{HERE}}}"
OURS = "and on (job, instance) reconciler_build_info"
"""The client library's process metrics have no prefix: take those of our own processes."""


def controller() -> Dashboard:
    return board(
        "controller", "Controller", "Whether the daemon itself is healthy.",
        [("Now", [*_numbers(), _table()]), ("Passes", _passes()), ("Checks", _checks()),
         ("Notifications", _notifications()), ("Host", _host())],
    )  # fmt: skip


def rate(metric: str, by: str) -> str:
    return f"sum by ({by}) (rate(reconciler_{metric}{{{HERE}}}[$__rate_interval]))"


def quantile(share: float, metric: str, by: str = "") -> str:
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', f'le{by}')})"


def _numbers() -> list[Panel]:
    def lately(metric: str) -> str:
        return f"sum(increase(reconciler_{metric}{{{HERE}}}[24h]))"

    ticks = f"reconciler_component_last_tick_timestamp_seconds{{{HERE}}}"
    return [
        number("Controllers", "Scraped by Prometheus.", f"count(reconciler_build_info{{{HERE}}})"),
        number("Longest silence", "Of any component of any controller.", f"max(time() - {ticks})", unit="s"),
        number("Bugs hit, 24 h", "Failed passes and refused plans.", lately("reconcile_panics_total"), bad=RED),
        number("Ledger errors, 24 h", "While the ledger fails nothing is done.", lately("state_errors_total"), bad=RED),
        number(
            "New ledgers", "Damaged ledgers moved aside at the last start.",
            f"sum(reconciler_state_recovered_total{{{HERE}}})", bad=ORANGE,
        ),
        number(
            "Suspended hosts", "Nothing is done there until an operator resumes it.",
            f'sum(reconciler_suspended{{{HERE},scope="host"}})', bad=YELLOW,
        ),
    ]  # fmt: skip


def _table() -> Panel:
    asked = {
        "A": f"max by (instance, version, python_version) (reconciler_build_info{{{HERE}}})",
        "B": f"time() - max by (instance) (reconciler_start_timestamp_seconds{{{HERE}}})",
        "C": f"count by (instance) (reconciler_vm_info{{{HERE}}})",
    }
    names = {
        "instance": "Host", "version": "Version", "python_version": "Python",
        "Value #B": "Up for", "Value #C": "VMs",
    }  # fmt: skip
    return rows(
        "Controllers", "Which version runs where.", asked, names,
        hidden=["Value #A"], cells={"Up for": unit("s")}, height=6,
    )  # fmt: skip


def _passes() -> list[Panel]:
    return [
        lines(
            "Passes", "By result. blocked: something waits for an operator.",
            [query(rate("reconcile_total", "result"), "{{result}}")], unit="ops",
            colors={"noop": GREY, "changed": BLUE, "error": RED, "blocked": ORANGE, "suspended": YELLOW},
        ),
        lines(
            "Time of a pass", "Without slow actions, which run beside it.",
            [query(quantile(share, "reconcile_duration_seconds"), name) for share, name in
             ((0.5, "median"), (0.95, "95 %"), (0.99, "99 %"))],
            unit="s",
        ),
        lines(
            "Actions", "Slow actions begun, of VMs and of the store.",
            [query(rate("actions_total", "action"), "{{action}}")], unit="ops",
        ),
        lines(
            "Actions in progress", "Slow actions of VMs: create, start, stop, copies of volumes.",
            [query(f"sum by (instance) (reconciler_operations_running{{{HERE}}})", "{{instance}}")],
        ),
        lines(
            "Oldest action in progress", "Each has deadlines of its own.",
            [query(f"(time() - {OLDEST}) * ({OLDEST} > bool 0)", "{{instance}}")], unit="s",
        ),
        lines(
            "Silence", "Since the last round of each component. The planner sleeps 30 s at most.",
            [query(f"time() - reconciler_component_last_tick_timestamp_seconds{{{HERE}}}", "{{instance}} {{component}}")],
            unit="s",
        ),
        lines(
            "Time until a write was durable", "Of the ledger.",
            [query(quantile(0.5, "state_write_duration_seconds"), "median"),
             query(quantile(0.95, "state_write_duration_seconds"), "95 %")],
            unit="s",
        ),
        lines(
            "Errors of the ledger", "By operation.",
            [query(rate("state_errors_total", "op"), "{{op}}")], unit="ops",
        ),
    ]  # fmt: skip


def _checks() -> list[Panel]:
    return [
        lines(
            "Results of checks", "error: the check could not be run, which says nothing about the guest.",
            [query(rate("probe_total", "result"), "{{result}}")], unit="ops",
            colors={"success": GREEN, "failure": RED, "error": ORANGE},
        ),
        lines(
            "Time of a check", "95th percentile, by kind.",
            [query(quantile(0.95, "probe_duration_seconds", ", type"), "{{type}}")], unit="s",
        ),
    ]  # fmt: skip


def _notifications() -> list[Panel]:
    oldest = f"reconciler_notifications_oldest_timestamp_seconds{{{HERE}}}"
    return [
        lines(
            "Messages", "By sink and result. failed: an attempt that is repeated.",
            [query(rate("notifications_total", "sink, result"), "{{sink}} {{result}}")], unit="ops",
        ),
        lines(
            "Waiting for a sink", "Beyond a thousand the oldest is dropped.",
            [query(f"sum by (instance, sink) (reconciler_notifications_pending{{{HERE}}})", "{{instance}} {{sink}}")],
        ),
        lines(
            "Age of the oldest waiting message", "None while all are delivered.",
            [query(f"(time() - {oldest}) * ({oldest} > bool 0)", "{{instance}} {{sink}}")], unit="s",
        ),
    ]  # fmt: skip


def _host() -> list[Panel]:
    return [
        lines(
            "CPU of the controller", "Guests are processes of their own, and not counted.",
            [query(f"rate(process_cpu_seconds_total{{{HERE}}}[$__rate_interval]) {OURS}", "{{instance}}")],
            unit="percentunit",
        ),
        lines(
            "Memory of the controller", "Resident.",
            [query(f"process_resident_memory_bytes{{{HERE}}} {OURS}", "{{instance}}")], unit="bytes",
        ),
        lines(
            "Open files", "A guest needs a few: its process, its checks.",
            [query(f"process_open_fds{{{HERE}}} {OURS}", "{{instance}}")],
        ),
        lines(
            "Free space", "In the state directory, and the reserve below which no new generation is built or started.",
            [query(f"reconciler_state_free_bytes{{{HERE}}}", "{{instance}}: free"),
             query(f"reconciler_state_reserve_bytes{{{HERE}}}", "{{instance}}: reserve")], unit="bytes",
        ),
        lines(
            "Size of the state", "By kind; measured every five minutes.",
            [query(f"sum by (kind) (reconciler_state_bytes{{{HERE}}})", "{{kind}}")], unit="bytes", stacked=True,
        ),
        lines(
            "Images removed", "Unused images: how often, and the space that was freed.",
            [query(f"sum by (result) (increase(reconciler_image_collections_total{{{HERE}}}[$__interval]))", "{{result}}")],
        ),
        lines(
            "Freed by that", "An image that is needed again is built again.",
            [query(f"sum(increase(reconciler_image_collected_bytes_total{{{HERE}}}[$__interval]))", "freed")], unit="bytes",
        ),
        lines(
            "Images in the store", "What guests run on or are to, what is kept to roll back to, and what may go.",
            [query(f"sum by (state) (reconciler_image_store_bytes{{{HERE}}})", "{{state}}"),
             query(f"reconciler_image_store_max_bytes{{{HERE}}}", "{{instance}}: bound")], unit="bytes",
        ),
        lines(
            "Saved by sharing", "What one copy of each image for every VM would take beyond the one that is there.",
            [query(f"reconciler_image_store_saved_bytes{{{HERE}}}", "{{instance}}")], unit="bytes",
        ),
        lines(
            "Images read again", "To find bytes that rotted; each about once a week.",
            [query(f"sum by (result) (increase(reconciler_image_checks_total{{{HERE}}}[$__interval]))", "{{result}}")],
        ),
        lines(
            "Garbage collections", "Of the Python runtime, by generation.",
            [query(f"sum by (generation) (rate(python_gc_collections_total{{{HERE}}}[$__rate_interval]) {OURS})", "{{generation}}")],
            unit="ops",
        ),
    ]  # fmt: skip
