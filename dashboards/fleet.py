"""The dashboard `fleet`: what runs, its health, and what should run."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.board import GROUP, HERE, INSTANCE, TAG, VM, board
from dashboards.panels import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    YELLOW,
    Panel,
    leads_to,
    lines,
    number,
    query,
    rows,
    states,
    unit,
    words,
)  # fmt: skip
from reconciler.metrics.label_sets import SYNC_STATES, VM_STATES

STATE_COLORS = {
    "running": GREEN, "stopped": GREY, "starting": BLUE, "stopping": YELLOW, "failed": RED,
}  # fmt: skip
SYNC_COLORS = {
    "synced": GREEN, "out-of-sync": YELLOW, "blocked": RED, "suspended": BLUE,
}  # fmt: skip
CHOSEN = f'{HERE},vm=~"$vm"'


def state_number(metric: str, label: str, states: tuple[str, ...], subject: str, more: str) -> str:
    """A set of 0/1 series as one number, the place of the state that is 1, from 1."""
    terms = (
        f'{metric}{{{more},{label}="{state}"}} * {place}' for place, state in enumerate(states, 1)
    )
    return f"sum by (instance, {subject}) ({' or '.join(terms)})"


def colored(states: tuple[str, ...], colors: dict[str, str]) -> dict[int, tuple[str, str]]:
    return {place: (state, colors[state]) for place, state in enumerate(states, 1)}


def fleet() -> Dashboard:
    return board(
        "fleet", "Fleet", "What runs on the hosts, its health, and what should run.",
        [("Now", [*_numbers(), _table()]), ("Over time", _over_time()), ("Guests", _guests())],
        variables=(INSTANCE, GROUP, VM),
    )  # fmt: skip


def _numbers() -> list[Panel]:
    def in_sync(status: str) -> str:
        return f'sum(reconciler_vm_sync_status{{{CHOSEN},status="{status}"}})'

    return [
        number("VMs", "Declared on the chosen hosts.", f"count(reconciler_vm_info{{{CHOSEN}}})"),
        number("Healthy", "Their checks pass.", f"sum(reconciler_vm_healthy{{{CHOSEN}}})"),
        number(
            "Not healthy", "Down, starting, or failing their checks.",
            f"count(reconciler_vm_healthy{{{CHOSEN}}}) - sum(reconciler_vm_healthy{{{CHOSEN}}})",
            bad=RED,
        ),
        number("Out of sync", "Different from the repository.", in_sync("out-of-sync"), bad=YELLOW),
        number("Blocked", "Their desired generation has failed.", in_sync("blocked"), bad=RED),
        number("Suspended", "By an operator; pushes have no effect.", in_sync("suspended"), bad=BLUE),
        number(
            "Restarts by crash, 24 h", "Guests that ended by themselves and were restarted.",
            f'sum(increase(reconciler_vm_restarts_total{{{CHOSEN},reason="crash"}}[24h]))', bad=ORANGE,
        ),
        number(
            "Hosts without controller", "Prometheus cannot scrape them.",
            f'count(up{{job="reconciler",{HERE}}} == 0) or vector(0)', bad=RED,
        ),
    ]  # fmt: skip


def _table() -> Panel:
    def value(metric: str) -> str:
        return f"max by (instance, vm) (reconciler_vm_{metric}{{{CHOSEN}}})"

    asked = {
        "A": f"max by (instance, vm, group, hypervisor) (reconciler_vm_info{{{CHOSEN}}})",
        "B": state_number("reconciler_vm_state", "state", VM_STATES, "vm", CHOSEN),
        "C": value("healthy"),
        "D": state_number("reconciler_vm_sync_status", "status", SYNC_STATES, "vm", CHOSEN),
        "E": value("running_generation"),
        "F": value("desired_generation"),
        "G": value("last_good_generation"),
        "H": f"time() - {value('start_timestamp_seconds')}",
        "I": f"sum by (instance, vm) (reconciler_vm_restarts_total{{{CHOSEN}}})",
    }
    names = {
        "instance": "Host", "group": "Group", "vm": "VM", "hypervisor": "Hypervisor",
        "Value #B": "State", "Value #C": "Health", "Value #D": "Sync", "Value #E": "Running",
        "Value #F": "Desired", "Value #G": "Last good", "Value #H": "Up for", "Value #I": "Restarts",
    }  # fmt: skip
    return rows(
        "VMs", "Generations: running, desired, and the target of a rollback.",
        asked, names, hidden=["Value #A"],
        cells={
            "State": words(colored(VM_STATES, STATE_COLORS)),
            "Health": words({1: ("healthy", GREEN), 0: ("not healthy", RED)}),
            "Sync": words(colored(SYNC_STATES, SYNC_COLORS)),
            "Up for": unit("s"),
            "Group": leads_to(f"{TAG}-rollouts", "group"),
        },
    )  # fmt: skip


def _over_time() -> list[Panel]:
    return [
        states(
            "State", "The state of each VM's guest.",
            state_number("reconciler_vm_state", "state", VM_STATES, "vm", CHOSEN),
            "{{vm}}", colored(VM_STATES, STATE_COLORS),
        ),
        states(
            "Sync", "Whether each VM matched the repository.",
            state_number("reconciler_vm_sync_status", "status", SYNC_STATES, "vm", CHOSEN),
            "{{vm}}", colored(SYNC_STATES, SYNC_COLORS),
        ),
        lines(
            "Healthy VMs", "Of the declared ones.",
            [
                query(f"count(reconciler_vm_info{{{CHOSEN}}})", "declared"),
                query(f"sum(reconciler_vm_healthy{{{CHOSEN}}})", "healthy"),
            ],
            colors={"declared": GREY, "healthy": GREEN},
        ),
        lines(
            "Restarts", "Guests restarted, by reason.",
            [query(f"sum by (reason) (increase(reconciler_vm_restarts_total{{{CHOSEN}}}[$__interval]))", "{{reason}}")],
            stacked=True, colors={"crash": RED, "rollback": ORANGE, "rollout": BLUE, "manual": GREY},
        ),
        _drift(),
    ]  # fmt: skip


def _drift() -> Panel:
    return lines(
        "Drift", "Deviations from the desired state, and their repair.",
        [query(f"sum by (kind) (increase(reconciler_drift_total{{{HERE}}}[$__interval]))", "{{kind}}")],
        stacked=True,
    )  # fmt: skip


def _guests() -> list[Panel]:
    def each(metric: str) -> str:
        return f"sum by (vm) (rate(reconciler_vm_{metric}{{{CHOSEN}}}[$__rate_interval]))"

    return [
        lines(
            "CPU of guests", "Of each VMM process: 1 is one core of the host.",
            [query(each("cpu_seconds_total"), "{{vm}}")],
        ),
        lines(
            "Memory of guests", "Resident, of each VMM process.",
            [query(f"sum by (vm) (reconciler_vm_resident_memory_bytes{{{CHOSEN}}})", "{{vm}}")],
            unit="bytes",
        ),
        lines(
            "Read from disks", "Reads from the host's page cache are not counted.",
            [query(each("disk_read_bytes_total"), "{{vm}}")], unit="Bps",
        ),
        lines(
            "Written to disks", "By each VMM process.",
            [query(each("disk_written_bytes_total"), "{{vm}}")], unit="Bps",
        ),
        lines(
            "Disk operations", "Reads and writes requested by guests, counted every half minute.",
            [query(f"sum by (vm, op) (rate(reconciler_vm_disk_operations_total{{{CHOSEN}}}[5m]))", "{{vm}} {{op}}")],
            unit="iops",
        ),
        lines(
            "Memory within guests",
            "Memory that the balloon leaves a guest, and the part available to its programs.",
            [
                query(f"reconciler_vm_memory_bytes{{{CHOSEN}}}", "{{vm}} has"),
                query(f"reconciler_vm_memory_available_bytes{{{CHOSEN}}}", "{{vm}} available"),
            ],
            unit="bytes",
        ),
        lines(
            "Received by guests", "Where the host counts it: see docs/operations/alerts.md.",
            [query(each("network_received_bytes_total"), "{{vm}}")], unit="Bps",
        ),
        lines(
            "Sent by guests", "Where the host counts it.",
            [query(each("network_sent_bytes_total"), "{{vm}}")], unit="Bps",
        ),
        lines(
            "Packets of guests", "Received and sent, where the host counts them.",
            [query(each("network_packets_total"), "{{vm}}")], unit="pps",
        ),
    ]  # fmt: skip
