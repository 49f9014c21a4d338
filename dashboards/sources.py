"""The dashboard `sources`: whether pushes arrive, and what was refused of them."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.board import HERE, board
from dashboards.panels import (
    BLUE,
    GREEN,
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

LAST = f"max by (instance, source) (reconciler_source_last_success_timestamp_seconds{{{HERE}}})"

SEEN = f'max by (instance, source) (reconciler_source_revision_timestamp_seconds{{{HERE},stage="validated"}})'
APPLIED = SEEN.replace("validated", "applied")


def sources() -> Dashboard:
    return board(
        "sources", "Sources", "Whether pushes arrive, and what was refused of them.",
        [("Now", [*_numbers(), _table()]), ("Looks", _looks())],
    )  # fmt: skip


def _numbers() -> list[Panel]:
    return [
        number("Sources", "One a host so far.", f"count({LAST})"),
        number("Oldest look", "Since the last look that succeeded.", f"max(time() - {LAST})", unit="s"),
        number(
            "Failing", "Sources whose last look failed.",
            f"count(reconciler_source_consecutive_failures{{{HERE}}} > 0) or vector(0)", bad=RED,
        ),
        number(
            "Problems of manifests", "Of newest revisions, which were refused for them.",
            f"sum(reconciler_manifest_errors{{{HERE}}})", bad=YELLOW,
        ),
        number(
            "Image builds, 24 h", "Layers and kernel bundles that were made.",
            f'sum(increase(reconciler_image_build_total{{{HERE},result="built"}}[24h]))',
        ),
        number(
            "Failed builds, 24 h", "Tried again by themselves, unless the manifest is wrong.",
            f'sum(increase(reconciler_image_build_total{{{HERE},result="failed"}}[24h]))', bad=ORANGE,
        ),
    ]  # fmt: skip


def _table() -> Panel:
    asked = {
        "A": f"max by (instance, source, commit) (reconciler_source_revision_info{{{HERE}}})",
        "B": f"time() - {LAST}",
        "C": f"max by (instance, source) (reconciler_source_consecutive_failures{{{HERE}}})",
    }
    names = {
        "instance": "Host", "source": "Source", "commit": "Newest valid commit",
        "Value #B": "Last read", "Value #C": "Failures in a row",
    }  # fmt: skip
    return rows(
        "Revisions", "The newest valid commit that each host knows.", asked, names,
        hidden=["Value #A"], cells={"Last read": unit("s")}, height=6,
    )  # fmt: skip


def _looks() -> list[Panel]:
    def rate(metric: str, by: str) -> str:
        return f"sum by ({by}) (rate(reconciler_{metric}{{{HERE}}}[$__rate_interval]))"

    def quantile(share: float, metric: str) -> str:
        return f"histogram_quantile({share}, {rate(f'{metric}_bucket', 'le')})"

    return [
        lines(
            "Looks", "By what they found.",
            [query(rate("source_fetch_total", "result"), "{{result}}")], unit="ops",
            colors={"updated": BLUE, "unchanged": GREEN, "error": RED},
        ),
        lines(
            "Errors", "Looks that failed, by why. verify and ancestry may be an attack.",
            [query(rate("source_errors_total", "reason"), "{{reason}}")], unit="ops",
        ),
        lines(
            "Webhooks", "What git servers posted, by what came of it.",
            [query(rate("webhook_requests_total", "result"), "{{result}}")], unit="ops",
            colors={"accepted": BLUE, "rate_limited": GREEN, "bad_signature": RED},
        ),
        lines(
            "Time of a look", "The median, and what one in twenty exceeds.",
            [
                query(quantile(0.5, "source_fetch_duration_seconds"), "median"),
                query(quantile(0.95, "source_fetch_duration_seconds"), "95 %"),
            ],
            unit="s",
        ),
        lines(
            "Time since the last good look", "Of each source.",
            [query(f"time() - {LAST}", "{{instance}} {{source}}")], unit="s",
        ),
        lines(
            "Not everywhere yet", "For how long the newest valid revision is known and some VM does not serve it.",
            [query(f"(time() - {SEEN}) * ({SEEN} > bool on (instance, source) {APPLIED})", "{{instance}} {{source}}")], unit="s",
        ),
        lines(
            "Image builds", "By how they ended.",
            [query(f"sum by (result) (increase(reconciler_image_build_total{{{HERE}}}[$__interval]))", "{{result}}")],
            stacked=True, colors={"built": GREEN, "cached": BLUE, "failed": RED},
        ),
        lines(
            "Time of a build", "Of those that made something.",
            [
                query(quantile(0.5, "image_build_duration_seconds"), "median"),
                query(quantile(0.95, "image_build_duration_seconds"), "95 %"),
            ],
            unit="s",
        ),
    ]  # fmt: skip
