"""The dashboard `rollouts`: how groups move to new generations, and what was rolled back."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.board import GROUP, HERE, INSTANCE, board
from dashboards.fleet import colored, state_number
from dashboards.panels import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    THIRD,
    YELLOW,
    Panel,
    heat,
    lines,
    number,
    query,
    states,
)  # fmt: skip
from reconciler.metrics.label_sets import ROLLOUT_STATES

CHOSEN = f'{HERE},group=~"$group"'
COLORS = {"idle": GREEN, "running": BLUE, "held": RED, "suspended": GREY}


def rollouts() -> Dashboard:
    return board(
        "rollouts", "Rollouts", "How groups move to new generations, and what was rolled back.",
        [("Now", _numbers()), ("Groups", _groups()), ("Outcomes", _outcomes()), ("Speed", _speed())],
        variables=(INSTANCE, GROUP),
    )  # fmt: skip


def _numbers() -> list[Panel]:
    def groups(state: str) -> str:
        return f'sum(reconciler_rollout_state{{{CHOSEN},state="{state}"}})'

    return [
        number("Rolling out", "Groups that move now.", groups("running")),
        number("Held", "Groups that stopped after a failure.", groups("held"), bad=RED),
        number("VMs yet to move", "In all groups.", f"sum(reconciler_rollout_pending_vms{{{CHOSEN}}})"),
        number(
            "Unavailable", "Members of groups, for any reason.",
            f"sum(reconciler_unavailable_vms{{{CHOSEN}}})", bad=ORANGE,
        ),
        number(
            "Rollbacks, 24 h", "VMs that returned to their last good generation.",
            f'sum(increase(reconciler_rollbacks_total{{{CHOSEN},result="succeeded"}}[24h]))', bad=ORANGE,
        ),
        number(
            "Rollbacks that failed, 24 h", "VMs that went into quarantine.",
            f'sum(increase(reconciler_rollbacks_total{{{CHOSEN},result="failed"}}[24h]))', bad=RED,
        ),
        number(
            "Condemned digests", "Remembered, and never started again automatically.",
            f"sum(reconciler_blocked_generations{{{CHOSEN}}})", bad=YELLOW,
        ),
        number(
            "Commit to running, median", "From a revision first seen to its last VM committed; 24 h.",
            f"histogram_quantile(0.5, sum by (le) (increase(reconciler_commit_to_running_seconds_bucket{{{HERE}}}[24h])))",
            unit="s",
        ),
    ]  # fmt: skip


def _groups() -> list[Panel]:
    return [
        states(
            "State of groups", "Running: members are being replaced. Held: a member failed.",
            state_number("reconciler_rollout_state", "state", ROLLOUT_STATES, "group", CHOSEN),
            "{{group}}", colored(ROLLOUT_STATES, COLORS), height=7,
        ),
        lines(
            "VMs that wait", "By reason, in all groups; docs/operations/troubleshooting.md has a row for each.",
            [query(f"sum by (kind) (reconciler_waiting_vms{{{HERE}}}) > 0 or sum(reconciler_waiting_vms{{{HERE}}})", "{{kind}}")],
        ),
        lines(
            "Guests on trial beside another", "Of VMs with update.strategy handover.",
            [query(f"sum by (instance) (reconciler_candidates{{{HERE}}})", "{{instance}}")],
        ),
        lines(
            "VMs yet to move", "Of each group.",
            [query(f"sum by (group) (reconciler_rollout_pending_vms{{{CHOSEN}}})", "{{group}}")],
        ),
        lines(
            "Unavailable, and how many may be", "maxUnavailable bounds what a rollout takes down.",
            [
                query(f"sum by (group) (reconciler_unavailable_vms{{{CHOSEN}}})", "{{group}}: down"),
                query(f"sum by (group) (reconciler_unavailable_budget{{{CHOSEN}}})", "{{group}}: may be"),
            ],
        ),
    ]  # fmt: skip


def _outcomes() -> list[Panel]:
    def happened(metric: str, by: str) -> str:
        of = CHOSEN if metric == "rollbacks_total" else HERE
        return f"sum by ({by}) (increase(reconciler_{metric}{{{of}}}[$__interval]))"

    return [
        lines(
            "Verdicts", "New generations that were committed or condemned, by VM.",
            [query(happened("rollouts_total", "result"), "{{result}}")], stacked=True, width=THIRD,
            colors={"succeeded": GREEN, "failed": RED},
        ),
        lines(
            "Trials of changed checks", "Changed checks that replaced the current ones, or were refused.",
            [query(happened("check_trials_total", "result"), "{{result}}")], stacked=True, width=THIRD,
        ),
        lines(
            "Rollbacks by cause", "Why the generation was condemned.",
            [query(happened("rollbacks_total", "reason"), "{{reason}}")], stacked=True, width=THIRD,
        ),
        lines(
            "Rollbacks by result", "Failed: the last good generation did not become healthy either.",
            [query(happened("rollbacks_total", "result"), "{{result}}")], stacked=True, width=THIRD,
            colors={"succeeded": ORANGE, "failed": RED},
        ),
    ]  # fmt: skip


def _speed() -> list[Panel]:
    def quantile(share: float) -> str:
        return (
            f"histogram_quantile({share}, sum by (le, phase) "
            f"(rate(reconciler_rollout_phase_duration_seconds_bucket{{{HERE}}}[$__rate_interval])))"
        )

    def gaps(share: float) -> str:
        return (
            f"histogram_quantile({share}, sum by (le, cause) "
            f"(increase(reconciler_vm_downtime_seconds_bucket{{{HERE}}}[24h])))"
        )

    return [
        heat(
            "Commit to running", "From a revision first seen to its last VM committed.",
            f"sum by (le) (increase(reconciler_commit_to_running_seconds_bucket{{{HERE}}}[$__interval]))",
        ),
        lines(
            "Downtime of a VM", "Between two guests of it: median and 95th percentile, in 24 h.",
            [query(gaps(0.5), "{{cause}}: median"), query(gaps(0.95), "{{cause}}: 95 %")], unit="s",
        ),
        lines(
            "Phases of a VM", "From the folder of a generation to its soak: median and 95th percentile.",
            [query(quantile(0.5), "{{phase}}: median"), query(quantile(0.95), "{{phase}}: 95 %")],
            unit="s",
        ),
    ]  # fmt: skip
